"""What PyPI's `minidump` sees in dumps, as records:

    python3 pypi_reader.py DIRECTORY

Its plan.json says which dumps; the records go to pypi.json. The form of a record stands in record.rs.
"""

import json
import logging
import os
import sys
import traceback
import zlib

from minidump.minidumpfile import MinidumpFile

# The package looks for the process environment block of Windows, and says at length that there is none.
logging.disable(logging.CRITICAL)

# Bits of ContextFlags of CONTEXT_AMD64 (winnt.h), and the package's names for what each part has.
CONTROL = {"rip": "Rip", "rsp": "Rsp", "rflags": "EFlags", "cs": "SegCs", "ss": "SegSs"}
INTEGER = {
    name: name.capitalize()
    for name in "rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split()
}
SEGMENTS = {"ds": "SegDs", "es": "SegEs", "fs": "SegFs", "gs": "SegGs"}
PARTS = [(1, CONTROL), (2, INTEGER), (4, SEGMENTS)]
FLOATING_POINT = 8


def whole(register):
    """128 bits, whose upper half the package takes for signed."""
    return (register.High & 0xFFFF_FFFF_FFFF_FFFF) << 64 | register.Low


def registers_of(context):
    registers = {}
    for bit, names in PARTS:
        if context.ContextFlags & bit:
            registers.update((ours, hex(getattr(context, its))) for ours, its in names.items())
    if context.ContextFlags & FLOATING_POINT:
        area = context.DUMMYUNIONNAME.FltSave
        registers["fctrl"] = hex(area.ControlWord)
        registers["fstat"] = hex(area.StatusWord)
        registers["ftag"] = hex(ord(area.TagWord))
        registers["mxcsr"] = hex(area.MxCsr)
        for index, register in enumerate(area.FloatRegisters):
            registers[f"st{index}"] = hex(whole(register) & ((1 << 80) - 1))
        for index, register in enumerate(area.XmmRegisters):
            registers[f"xmm{index}"] = hex(whole(register))
    return registers


def threads_of(dump):
    threads = {}
    for thread in dump.threads.threads:
        record = {}
        # The package reads a context at offset 0 where there is none.
        context = getattr(thread, "ContextObject", None)
        if context is not None and thread.ThreadContext.DataSize > 0:
            record["registers"] = registers_of(context)
        threads[hex(thread.ThreadId)] = record
    return threads


def exception_of(dump):
    if dump.exception is None or not dump.exception.exception_records:
        return None
    stream = dump.exception.exception_records[0]
    record = stream.ExceptionRecord
    return {
        "thread": hex(stream.ThreadId),
        "code": hex(record.ExceptionCode_raw),
        "si_code": hex(record.ExceptionFlags),
        "address": hex(record.ExceptionAddress),
    }


def modules_of(dump):
    return {
        hex(module.baseaddress): {"path": module.name, "size": hex(module.size)}
        for module in dump.modules.modules
    }


def memory_of(dump):
    memory = {}
    for piece in dump.memory_segments.memory_segments:
        data = piece.read(piece.start_virtual_address, piece.size, dump.file_handle)
        memory[hex(piece.start_virtual_address)] = {
            "size": hex(len(data)),
            "sum": hex(zlib.crc32(data)),
        }
    return memory


def record_of(path):
    dump = MinidumpFile.parse(path)
    try:
        return {
            "pid": hex(dump.misc_info.ProcessId),
            "threads": threads_of(dump),
            "exception": exception_of(dump),
            "modules": modules_of(dump),
            "memory": memory_of(dump),
        }
    finally:
        dump.file_handle.close()


def main(directory):
    with open(os.path.join(directory, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    records = {}
    for name in plan:
        try:
            records[name] = record_of(os.path.join(directory, name))
        except Exception:
            records[name] = {"error": traceback.format_exc()}
    with open(os.path.join(directory, "pypi.json"), "w", encoding="utf-8") as file:
        json.dump(records, file)


main(sys.argv[1])
