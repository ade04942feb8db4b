/* Rust's standard library takes its random numbers from a library that Wine 8 doesn't have. */
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *bytes, unsigned long length);

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *bytes, unsigned long long length)
{
    return SystemFunction036(bytes, (unsigned long)length);
}
