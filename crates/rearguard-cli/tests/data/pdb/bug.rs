//! A program for Windows without a runtime, for its debug information; it is never run.
//!
//! In `/build`, with the toolchain's `rust-lld` on the search path:
//! `rustc --edition 2024 --target x86_64-pc-windows-msvc -O -C debuginfo=1 -C panic=abort -C linker=rust-lld -C link-arg=/ENTRY:begin -C link-arg=/SUBSYSTEM:CONSOLE -C link-arg=/NODEFAULTLIB -C link-arg=/EXPORT:save -C link-arg=/Brepro -C link-arg=/PDBALTPATH:bug.pdb bug.rs`
#![no_std]
#![no_main]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

mod document {
    pub struct Page {
        pub lines: *mut u32,
    }
    impl Page {
        #[inline(always)]
        pub fn write(&self, value: u32) {
            // SAFETY: none, that is the point.
            unsafe { self.lines.write_volatile(value) };
        }
    }
    #[inline(never)]
    #[unsafe(no_mangle)]
    pub extern "C" fn save(page: &Page) {
        page.write(7);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn begin() -> u32 {
    document::save(&document::Page { lines: core::ptr::null_mut() });
    1
}
