//! Dumpers that die or hang in the middle.

use rearguard_minidump::{Request, Step};

use crate::live::{ping, start};
use crate::reading::Dump;
use crate::zoo::{self, Zoo};

/// A file that is gone when the test is.
pub(crate) struct Scratch(pub(crate) std::path::PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        Scratch(
            std::env::temp_dir().join(format!("rearguard-minidump-{}-{name}", std::process::id())),
        )
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Goal: wherever the dumper is killed, no thread of the target stays stopped.
#[test]
fn a_dumper_that_dies_releases_the_target_at_every_step() {
    let (mut zoo, _) = start(4);
    for step in Step::ALL {
        let scratch = Scratch::new(&format!("die-{step:?}"));
        let mut dumper = Zoo::start(&format!("dumper die {step:?}"));
        assert_eq!(dumper.answer(), ["ready"]);
        dumper.tell(&format!("{} {}", zoo.pid(), scratch.path()));
        let status = dumper.wait();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGKILL),
            "{step:?}"
        );
        ping(&mut zoo);
    }
}

/// Goal: a dumper that hangs holds the target only until it is killed, and the next dumper, which comes at once, gets every thread.
#[test]
fn the_next_dumper_gets_what_a_killed_one_held() {
    let (mut zoo, _) = start(30);
    for step in [Step::Seized, Step::Stopped, Step::StacksCopied] {
        let scratch = Scratch::new(&format!("hold-{step:?}"));
        let mut dumper = Zoo::start(&format!("dumper hold {step:?}"));
        assert_eq!(dumper.answer(), ["ready"]);
        dumper.tell(&format!("{} {}", zoo.pid(), scratch.path()));
        assert_eq!(dumper.answer(), ["held"]);
        if step != Step::Seized {
            assert!(zoo.states().iter().all(|(_, state)| *state == 't'), "{:?}", zoo.states());
        }
        // No wait: the kernel is still at the killed dumper's end when the next one begins.
        dumper.kill();
        let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
        assert_eq!(dump.soft_errors(), "", "{step:?}");
        assert_eq!(dump.threads().threads.len(), zoo.states().len());
        ping(&mut zoo);
    }
}

/// Goal: a thread that somebody else holds costs a bounded time and its registers.
#[test]
fn a_debugger_keeps_its_threads() {
    let (mut zoo, _) = start(1);
    let scratch = Scratch::new("debugger");
    let mut dumper = Zoo::start("dumper hold Stopped");
    assert_eq!(dumper.answer(), ["ready"]);
    dumper.tell(&format!("{} {}", zoo.pid(), scratch.path()));
    assert_eq!(dumper.answer(), ["held"]);
    let mut request = Request::new(zoo.pid());
    request.limits.seize_retry_ms_max = 30;
    let dump = Dump::parse(zoo::capture(&request).unwrap().encode());
    assert_eq!(dump.threads().threads.len(), zoo.states().len());
    assert!(
        dump.soft_errors().contains("\"operation\":\"trace thread\""),
        "{}",
        dump.soft_errors()
    );
    dumper.tell("go on");
    assert_eq!(dumper.answer(), ["written"]);
    ping(&mut zoo);
}

/// Goal: a signal that a held thread is about to take is given back by a dumper that has to let go thread by thread.
#[test]
fn no_signal_is_lost_without_a_helper_thread() {
    let mut zoo = Zoo::start("signals");
    let tid: i32 = zoo.answer()[1].parse().unwrap();
    let mut sent = 0;
    for step in ["Seized", "Stopped", "StacksCopied"] {
        let scratch = Scratch::new(&format!("give-back-{step}"));
        let mut dumper = Zoo::start(&format!("dumper deny-clone-hold {step}"));
        assert_eq!(dumper.answer(), ["ready"]);
        dumper.tell(&format!("{} {}", zoo.pid(), scratch.path()));
        assert_eq!(dumper.answer(), ["held"]);
        crate::calls::send(zoo.pid(), tid, libc::SIGRTMIN());
        sent += 1;
        dumper.tell("go on");
        assert_eq!(dumper.answer(), ["written"]);
        zoo.tell(&sent.to_string());
        assert_eq!(zoo.answer(), ["taken", &sent.to_string()], "{step}");
    }
    zoo.assert_runs();
}

/// Goal: a caller that ignores SIGCHLD captures like any other.
#[test]
fn ignoring_sigchld_changes_nothing() {
    let (mut zoo, _) = start(20);
    for role in ["plain", "ignore"] {
        let scratch = Scratch::new(role);
        let mut dumper = Zoo::start(&format!("dumper {role}"));
        assert_eq!(dumper.answer(), ["ready"]);
        dumper.tell(&format!("{} {}", zoo.pid(), scratch.path()));
        assert_eq!(dumper.answer(), ["written"], "{role}");
        let dump = Dump::parse(std::fs::read(&scratch.0).unwrap());
        assert_eq!(dump.soft_errors(), "", "{role}");
        assert_eq!(dump.threads().threads.len(), zoo.states().len());
        ping(&mut zoo);
    }
}
