//! What makes two crashes the same: where the crashing thread was, by modules and offsets, without symbols and without regard to where the system had put the modules.
//!
//! It is computed from the finished minidump, whoever wrote it: the instruction pointer, and, where that is in a library, the first words of the stack that point into the program itself, which are return addresses for the most part. Below an instruction of the program's own the stack is not looked at: what earlier calls have left on it differs from life to life.

/// Stream types, and the sizes of their entries (minidumpapiset.h).
const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const EXCEPTION: u32 = 6;
const THREAD_BYTES: usize = 48;
const MODULE_BYTES: usize = 108;

/// Where stack and instruction pointer stand in a CONTEXT.
const STACK_POINTER_AT: usize = if cfg!(target_arch = "aarch64") { 0x100 } else { 0x98 };
const INSTRUCTION_POINTER_AT: usize = if cfg!(target_arch = "aarch64") { 0x108 } else { 0xf8 };

/// How many words of the stack are looked at, and how many of those that point into the program count.
const STACK_WORDS_MAX: usize = 256;
const FRAMES_MAX: usize = 2;

/// The program itself is the first of a minidump's modules.
const PROGRAM: usize = 0;

/// The signature of a crash of one program, which its minidump tells; `None` for one that doesn't tell enough.
pub(crate) fn of_minidump(program: [&str; 2], dump: &[u8]) -> Option<u64> {
    let mut hash = Hash::of(program);
    put_minidump(dump, &mut hash)?;
    Some(hash.0)
}

/// The signature of an end by a panic: where it was.
pub(crate) fn of_panic(program: [&str; 2], location: &str) -> u64 {
    let mut hash = Hash::of(program);
    hash.put(location.as_bytes());
    hash.0
}

/// FNV-1a, 64 bits.
struct Hash(u64);

impl Hash {
    fn of(program: [&str; 2]) -> Hash {
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        for text in program {
            hash.put(text.as_bytes());
            hash.put(&[0]);
        }
        hash
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A minidump's bytes; everything in it may be missing.
#[derive(Clone, Copy)]
struct Dump<'a>(&'a [u8]);

impl<'a> Dump<'a> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// Where a stream begins.
    fn stream(self, kind: u32) -> Option<usize> {
        let directory = self.u32(12)? as usize;
        (0..self.u32(8)? as usize).find_map(|number| {
            let entry = directory + number * 12;
            (self.u32(entry)? == kind).then_some(self.u32(entry + 8)? as usize)
        })
    }

    /// The module, by its place in the list, and where in it an address lies; `None` for one in no module.
    fn place(self, modules: usize, address: u64) -> Option<Place> {
        (0..self.u32(modules)? as usize).find_map(|number| {
            let module = modules + 4 + number * MODULE_BYTES;
            let offset = address.wrapping_sub(self.u64(module)?);
            let size = self.u32(module + 8)?;
            (offset < u64::from(size)).then_some(Place { number, size, offset })
        })
    }
}

/// Where an address lies.
struct Place {
    number: usize,
    /// Its size tells a module from others as well as its name, which is a path.
    size: u32,
    offset: u64,
}

impl Place {
    fn put(&self, hash: &mut Hash) {
        hash.put(&self.size.to_le_bytes());
        hash.put(&self.offset.to_le_bytes());
    }
}

/// Adds what a minidump tells; `None` for one without a crash, or without what it takes.
fn put_minidump(dump: &[u8], hash: &mut Hash) -> Option<()> {
    let dump = Dump(dump);
    let exception = dump.stream(EXCEPTION)?;
    let modules = dump.stream(MODULE_LIST)?;
    let thread = dump.u32(exception)?;
    hash.put(&dump.u32(exception + 8)?.to_le_bytes());
    let context = dump.u32(exception + 164)? as usize;
    let here = dump.place(modules, dump.u64(context + INSTRUCTION_POINTER_AT)?);
    let mut is_known = false;
    if let Some(place) = &here {
        place.put(hash);
        is_known = true;
    }
    if here.is_none_or(|place| place.number != PROGRAM) {
        let stack_pointer = dump.u64(context + STACK_POINTER_AT)?;
        let frames = put_frames(dump, modules, (thread, stack_pointer), hash).unwrap_or(0);
        is_known |= frames > 0;
    }
    // A jump into nowhere from nowhere is like any other, and tells nothing.
    is_known.then_some(())
}

/// Adds the first words of a thread's stack that point into the program, and gives their number.
fn put_frames(
    dump: Dump<'_>,
    modules: usize,
    (thread, stack_pointer): (u32, u64),
    hash: &mut Hash,
) -> Option<usize> {
    let threads = dump.stream(THREAD_LIST)?;
    let entry = (0..dump.u32(threads)? as usize)
        .map(|number| threads + 4 + number * THREAD_BYTES)
        .find(|entry| dump.u32(*entry) == Some(thread))?;
    let start = dump.u64(entry + 24)?;
    let bytes = dump.u32(entry + 32)? as usize;
    let memory = dump.u32(entry + 36)? as usize;
    // Of a stack that has overflown the memory begins above its pointer.
    let skipped = usize::try_from(stack_pointer.saturating_sub(start)).ok()?;
    let mut frames = 0;
    for at in (skipped..bytes).step_by(8).take(STACK_WORDS_MAX) {
        let Some(word) = dump.u64(memory.checked_add(at)?) else { break };
        if let Some(place) = dump.place(modules, word).filter(|place| place.number == PROGRAM) {
            place.put(hash);
            frames += 1;
            if frames == FRAMES_MAX {
                break;
            }
        }
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the library lies, seen from the program.
    const LIBRARY: u64 = 0x10_000;

    /// A minidump of one thread, the program, which is loaded at `base`, and a library.
    fn dump(base: u64, code: u32, offset: u64, stack: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 4096];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(8, &3_u32.to_le_bytes());
        put(12, &32_u32.to_le_bytes());
        for (number, (kind, at)) in
            [(EXCEPTION, 100_u32), (MODULE_LIST, 300), (THREAD_LIST, 600)].into_iter().enumerate()
        {
            put(32 + number * 12, &kind.to_le_bytes());
            put(40 + number * 12, &at.to_le_bytes());
        }
        put(100, &7_u32.to_le_bytes());
        put(108, &code.to_le_bytes());
        put(264, &1000_u32.to_le_bytes());
        put(1000 + INSTRUCTION_POINTER_AT, &(base + offset).to_le_bytes());
        put(1000 + STACK_POINTER_AT, &0x7000_u64.to_le_bytes());
        put(300, &2_u32.to_le_bytes());
        put(304, &base.to_le_bytes());
        put(312, &0x1000_u32.to_le_bytes());
        put(304 + MODULE_BYTES, &(base + LIBRARY).to_le_bytes());
        put(312 + MODULE_BYTES, &0x800_u32.to_le_bytes());
        put(600, &1_u32.to_le_bytes());
        put(604, &7_u32.to_le_bytes());
        put(604 + 24, &0x7000_u64.to_le_bytes());
        put(604 + 32, &(stack.len() as u32 * 8).to_le_bytes());
        put(604 + 36, &3000_u32.to_le_bytes());
        for (number, word) in stack.iter().enumerate() {
            put(3000 + number * 8, &word.to_le_bytes());
        }
        bytes
    }

    fn signature(dump: &[u8]) -> u64 {
        of_minidump(["1", "main"], dump).expect("all that it takes is there")
    }

    // Goal: the same place is the same wherever its module lies and whatever else is on the stack; another place, way or caller is another.
    #[test]
    fn places_make_the_signature() {
        let (here, there) = (0x5000_0000_u64, 0x7f00_0000_u64);
        let first = signature(&dump(here, 11, 0x10, &[here + 0x20]));
        assert_eq!(first, signature(&dump(there, 11, 0x10, &[9, there + 0x28])));
        assert_ne!(first, signature(&dump(here, 6, 0x10, &[])));
        assert_ne!(first, signature(&dump(here, 11, 0x18, &[])));
        let offset = LIBRARY + 0x10;
        let called = signature(&dump(here, 6, offset, &[1, here + 0x20, here + LIBRARY]));
        assert_eq!(
            called,
            signature(&dump(there, 6, offset, &[there + LIBRARY + 8, there + 0x20]))
        );
        assert_ne!(called, signature(&dump(here, 6, offset, &[1, here + 0x28])));
        assert_ne!(called, signature(&dump(here, 6, offset + 1, &[1, here + 0x20])));
        let mut lost = dump(here, 11, 0x10, &[]);
        lost[1000 + INSTRUCTION_POINTER_AT..][..8].fill(0);
        assert_eq!(of_minidump(["1", "main"], &lost), None, "nobody knows where that was");
        let program = |version| of_minidump([version, "main"], &dump(here, 11, 0x10, &[]));
        assert_ne!(program("1"), program("2"), "another version is another program");
        assert_ne!(of_panic(["1", "a"], "b:1:1"), of_panic(["1", "ab"], ":1:1"));
    }

    // Goal: a minidump that is cut short or lies never does harm.
    #[test]
    fn hostile_dumps_are_harmless() {
        let whole = dump(0x5000_0000, 11, 0x10, &[0x5000_0020]);
        for length in 0..whole.len() {
            let _ = of_minidump(["", ""], &whole[..length]);
        }
        for at in (0..1000).step_by(4) {
            let mut bytes = whole.clone();
            bytes[at..at + 4].fill(0xff);
            let _ = of_minidump(["", ""], &bytes);
        }
    }
}
