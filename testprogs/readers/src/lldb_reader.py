"""What lldb sees in dumps, as records; run by lldb's own Python:

    lldb --batch -o "command script import lldb_reader.py"

READERS_DUMPS names the directory. Its plan.json says which dumps, which pieces of memory, which files, and of which dumps the stack is wanted; the records go to lldb.json.
The form of a record stands in record.rs. What lldb gives no value for isn't in the record.
"""

import json
import os
import traceback
import zlib

import lldb


def numbered(prefix, count):
    return {f"{prefix}{number}" for number in range(count)}


# The registers of the records, by the machine's name in lldb's triple; lldb shows parts of them as registers too.
WANTED = {
    "x86_64": set(
        "rip rsp rflags cs ss rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15"
        " ds es fs gs fctrl fstat ftag mxcsr".split()
    )
    | numbered("st", 8)
    | numbered("xmm", 16),
    "aarch64": set("fp lr sp pc cpsr".split()) | numbered("x", 29) | numbered("v", 32),
}


def number(register):
    """The value of a register of any size, or None where lldb has none."""
    if register.GetValue() is None:
        return None
    error = lldb.SBError()
    data = register.GetData()
    read = data.ReadRawData(error, 0, register.GetByteSize())
    return int.from_bytes(read, "little") if error.Success() else None


def registers_of(thread, wanted):
    registers = {}
    for group in thread.GetFrameAtIndex(0).GetRegisters():
        for register in group:
            name = register.GetName()
            value = number(register) if name in wanted else None
            if value is not None:
                registers[name] = hex(value)
    return registers


def threads_of(target, process):
    wanted = WANTED[target.GetTriple().split("-")[0]]
    threads = {}
    for thread in process:
        record = {}
        if thread.GetName() is not None:
            record["name"] = thread.GetName()
        registers = registers_of(thread, wanted)
        if registers:
            record["registers"] = registers
        threads[hex(thread.GetThreadID())] = record
    return threads


def exception_of(process):
    for thread in process:
        if thread.GetStopReason() == lldb.eStopReasonSignal:
            code = thread.GetStopReasonDataAtIndex(0)
            return {"thread": hex(thread.GetThreadID()), "code": hex(code)}
    return None


def modules_of(target):
    modules = {}
    for module in target.module_iter():
        base = module.GetObjectFileHeaderAddress().GetLoadAddress(target)
        record = {"path": module.GetPlatformFileSpec().fullpath}
        # lldb writes a build id as it writes UUIDs.
        uuid = module.GetUUIDString()
        if uuid:
            record["build_id"] = uuid.replace("-", "").lower()
        modules[hex(base)] = record
    return modules


def memory_of(process, pieces):
    memory = {}
    for start, size in pieces:
        error = lldb.SBError()
        data = process.ReadMemory(int(start, 16), int(size, 16), error)
        if error.Success():
            memory[start] = {"size": hex(len(data)), "sum": hex(zlib.crc32(data))}
    return memory


def frames_of(process):
    frames = []
    for thread in process:
        if thread.GetStopReason() == lldb.eStopReasonSignal:
            for frame in thread:
                line = frame.GetLineEntry()
                function = (frame.GetFunctionName() or "").split("(")[0]
                front, _, last = function.rpartition("::h")
                if front and len(last) == 16:
                    function = front
                file = line.GetFileSpec().GetFilename() or ""
                frames.append([function, file, line.GetLine(), frame.IsInlined()])
    return frames


def record_of(debugger, path, plan):
    error = lldb.SBError()
    target = debugger.CreateTarget("")
    try:
        process = target.LoadCore(path, error)
        if error.Fail() or not process.IsValid():
            return {"error": str(error)}
        record = {
            "pid": hex(process.GetProcessID()),
            "threads": threads_of(target, process),
            "exception": exception_of(process),
            "modules": modules_of(target),
            "memory": memory_of(process, plan["memory"]),
        }
        if plan["frames"]:
            record["frames"] = frames_of(process)
        return record
    finally:
        debugger.DeleteTarget(target)


def __lldb_init_module(_debugger, _names):
    directory = os.environ["READERS_DUMPS"]
    with open(os.path.join(directory, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    # Without the initial files of whoever runs the tests.
    debugger = lldb.SBDebugger.Create(False)
    debugger.SetAsync(False)
    records = {}
    seen = set()
    for name, wanted in sorted(plan.items(), key=lambda item: sorted(item[1]["paths"])):
        # A file that lldb has in memory it shows for every other path with the same build id, so it begins anew with each new path.
        # Not with each dump: reading the larger files takes it a quarter of a second.
        if not seen.issuperset(wanted["paths"]):
            lldb.SBDebugger.MemoryPressureDetected()
            seen = set()
        seen.update(wanted["paths"])
        try:
            records[name] = record_of(debugger, os.path.join(directory, name), wanted)
        except Exception:
            records[name] = {"error": traceback.format_exc()}
    with open(os.path.join(directory, "lldb.json"), "w", encoding="utf-8") as file:
        json.dump(records, file)
