//! The other side as a process of its own: it dumps, and is ended, stopped or hindered meanwhile.

use rearguard_minidump::{CrashContext, Registers, Request, Step, capture};

use crate::calls;
use crate::zoo::{command, say};

/// One word names what happens to the dumper; then on its standard input comes `PID FILE`, or `PID FILE TID SP IP COPY...` for a crash.
pub(crate) fn run(words: &[&str]) {
    match *words {
        ["die", step] => dump_with(Some(&|here| {
            if here == named(step) {
                calls::kill_this_process();
            }
        })),
        ["hold", step] => hold(step),
        ["deny-clone-hold", step] => {
            calls::deny(&[libc::SYS_clone, libc::SYS_clone3]);
            hold(step);
        }
        ["plain"] => dump_with(None),
        ["ignore"] => {
            calls::ignore(libc::SIGCHLD);
            dump_with(None);
        }
        ["deny-ptrace"] => {
            calls::deny(&[libc::SYS_ptrace]);
            dump_with(None);
        }
        ["deny-reading"] => {
            calls::deny(&[libc::SYS_process_vm_readv]);
            dump_with(None);
        }
        ["deny-both"] => {
            calls::deny(&[libc::SYS_process_vm_readv, libc::SYS_ptrace]);
            dump_with(None);
        }
        ["deny-files"] => {
            // Without process_vm_readv and without /proc, words of a stopped thread are the last way.
            calls::deny(&[libc::SYS_process_vm_readv, libc::SYS_pread64]);
            dump_with(None);
        }
        ["answer-asking"] => {
            calls::answer(&[libc::SYS_tgkill], 0);
            dump_with(None);
        }
        ["deny-asking"] => {
            calls::deny(&[libc::SYS_tgkill]);
            dump_with(None);
        }
        ["deny-clone"] => {
            calls::deny(&[libc::SYS_clone, libc::SYS_clone3]);
            dump_with(None);
        }
        ["stranger"] => dump_with(None),
        _ => panic!("no such dumper: {words:?}"),
    }
}

/// Says so at a step and waits there to be told.
fn hold(step: &str) {
    dump_with(Some(&|here| {
        if here == named(step) {
            say("held");
            command();
        }
    }));
}

fn named(step: &str) -> Step {
    Step::ALL.into_iter().find(|candidate| format!("{candidate:?}") == step).unwrap()
}

fn dump_with(probe: Option<&(dyn Fn(Step) + Sync)>) {
    say("ready");
    let line = command();
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let file = std::fs::File::create(words[1]).unwrap();
    let copy: Vec<u8> =
        words.get(5..).unwrap_or_default().iter().map(|word| word.parse().unwrap()).collect();
    if std::env::var(crate::zoo::ROLE).unwrap().ends_with("stranger") {
        calls::become_nobody();
    }
    let mut request = Request { probe, ..Request::new(number(0) as i32) };
    if words.len() > 4 {
        let (sp, ip) = (number(3), number(4));
        let mut general = vec![0; 34];
        let (sp_at, ip_at) = if cfg!(target_arch = "x86_64") { (15, 16) } else { (31, 32) };
        general[sp_at] = sp;
        general[ip_at] = ip;
        request.crash = Some(CrashContext {
            tid: number(2) as i32,
            signal: libc::SIGSEGV,
            code: 1,
            address: 0x77,
            registers: Registers::from_signal_context(&general, &[]).unwrap(),
            stack_copy: (!copy.is_empty()).then_some((sp, &copy)),
        });
    }
    match capture(&request) {
        Ok(capture) => {
            capture.write_to(&mut &file).unwrap();
            say("written");
        }
        Err(error) => say(&format!("error {error}")),
    }
    command();
}
