//! Systems that refuse a part of what a capture asks for.

use crate::killed::Scratch;
use crate::live::{ping, start, with_strangers};
use crate::reading::Dump;
use crate::zoo::{SECRET, Zoo, contains};

/// Dumps in the given role; `crash` is what stands behind the file on the dumper's input.
fn dump(zoo: &Zoo, role: &str, crash: &str) -> Dump {
    let scratch = Scratch::new(role);
    let mut dumper = Zoo::start(&format!("dumper {role}"));
    assert_eq!(dumper.answer(), ["ready"]);
    dumper.tell(format!("{} {} {crash}", zoo.pid(), scratch.path()).trim());
    assert_eq!(dumper.answer(), ["written"], "{role}");
    Dump::parse(std::fs::read(&scratch.0).unwrap())
}

/// Goal: with ptrace refused there are pointers and stacks all the same.
#[test]
fn without_ptrace_the_waiting_threads_are_described() {
    let (mut zoo, threads) = start(3);
    // Only of a thread that waits the pointers are known without ptrace.
    zoo.wait_states('S');
    let dump = dump(&zoo, "deny-ptrace", "");
    assert!(
        dump.soft_errors().contains("\"operation\":\"trace thread\""),
        "{}",
        dump.soft_errors()
    );
    assert_eq!(dump.threads().threads.len(), zoo.states().len());
    for (tid, mark) in &threads {
        let (start, stack) = dump.stack(*tid).unwrap();
        assert!((start..start + stack.len() as u64).contains(mark));
        assert!(dump.context(*tid).is_some());
    }
    assert!(!contains(&dump.bytes, SECRET));
    ping(&mut zoo);
}

/// Goal: each way of reading memory gives the same dump.
#[test]
fn every_way_of_reading_gives_the_stacks() {
    let (mut zoo, threads) = start(3);
    for role in ["deny-reading", "deny-both", "deny-files"] {
        let dump = dump(&zoo, role, "");
        for (tid, mark) in &threads {
            let (start, stack) =
                dump.stack(*tid).unwrap_or_else(|| panic!("{role}: {}", dump.soft_errors()));
            assert!((start..start + stack.len() as u64).contains(mark), "{role}");
        }
        assert!(!contains(&dump.bytes, SECRET));
    }
    ping(&mut zoo);
}

/// Goal: where no thread can be made the capture works without, and loses no thread.
#[test]
fn without_a_helper_thread_the_dump_is_the_same() {
    let (mut zoo, threads) = start(3);
    let dump = dump(&zoo, "deny-clone", "");
    assert!(dump.soft_errors().contains("make the thread"), "{}", dump.soft_errors());
    for (tid, _) in &threads {
        assert!(dump.stack(*tid).is_some() && dump.context(*tid).is_some());
    }
    ping(&mut zoo);
}

/// Goal: a filter that says of any number that it is a thread's makes nobody else a thread of the target.
#[test]
fn only_threads_of_the_target_are_dumped() {
    with_strangers(|zoo, _| {
        for role in ["answer-asking", "deny-asking"] {
            let dump = dump(zoo, role, "");
            assert_eq!(dump.thread_ids(), zoo.thread_ids(), "{role}: {}", dump.soft_errors());
        }
    });
}

/// Goal: where nothing of the target can be read the handler's own copy makes the dump.
#[test]
fn a_stranger_uses_the_copy_of_the_handler() {
    let (mut zoo, _) = start(1);
    // As root the dumper becomes a stranger; otherwise there is no way to be refused here.
    if crate::calls::getuid() != 0 {
        return;
    }
    // A stack as the kernel makes it: frames, the auxiliary vector, then the strings.
    let sp = 0x7ffd_0000_0000_u64;
    let mut copy = vec![0xaa_u8; 64];
    for word in [6, 4096, 25, sp + 120, 0, 0] {
        copy.extend_from_slice(&u64::to_le_bytes(word));
    }
    copy.extend_from_slice(SECRET.as_bytes());
    let bytes: Vec<String> = copy.iter().map(u8::to_string).collect();
    let dump = dump(&zoo, "stranger", &format!("{} {sp} 4096 {}", zoo.pid(), bytes.join(" ")));
    assert!(dump.soft_errors().contains("\"operation\":\"read memory\""), "{}", dump.soft_errors());
    assert_eq!(dump.stack(zoo.pid()).unwrap(), (sp, vec![0xaa; 64]));
    assert_eq!(dump.exception().raw.exception_record.exception_address, 0x77);
    assert_eq!(dump.context(zoo.pid()).unwrap().get_stack_pointer(), sp);
    assert!(!contains(&dump.bytes, SECRET));
    ping(&mut zoo);
}
