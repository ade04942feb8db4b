//! Where the guard stands: before the application, or nowhere until a crash. What whoever started the first process sees of it is the same as without a guard.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]
#![expect(unsafe_code, reason = "job control and terminals are made by system calls")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;

use common::{PATIENCE, Scene, TOPOLOGIES, kill, needs_root, program, state};

const FRONT: [&str; 3] = ["--topology", "guard-first", "--wait-guarded"];

/// Longer than any test: the zoo is held until the test sends it a signal.
const HELD: [&str; 3] = ["--after", "600000", "none"];

fn held_in_front() -> Vec<&'static str> {
    [&FRONT[..], &HELD].concat()
}

/// The worker below the front that was started, once it is guarded.
fn worker_of(scene: &Scene) -> u32 {
    scene.await_event("guarded", 1)[0].pid
}

// Goal: an exit code below is the exit code in front, and a panic's too.
#[test]
fn exit_codes_are_those_of_the_application() {
    for (way, code) in [("none", 0), ("exit-3", 3), ("panic", 101)] {
        let scene = Scene::new();
        let ended = scene.run(&[&FRONT[..], &["--restart", "never", way]].concat());
        assert_eq!(ended.code(), Some(code), "{way}: {ended:?}");
        assert_eq!(scene.events("main").len(), 1, "{way}");
    }
}

// Goal: a signal to the first process reaches the application, and its end is the end of both; nobody is started again after it.
#[test]
fn signals_to_the_first_process_are_the_applications() {
    let ending = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGPWR,
        libc::SIGRTMIN(),
        libc::SIGRTMAX(),
    ];
    for signal in ending {
        let scene = Scene::new();
        let front = scene.zoo(&held_in_front()).spawn().expect("the zoo starts");
        let worker = worker_of(&scene);
        assert_ne!(worker, front.id());
        assert!(kill(front.id(), signal));
        let ended = scene.finish(front);
        scene.settle();
        assert_eq!(ended.signal(), Some(signal), "{ended:?}");
        assert_eq!(scene.events("main").len(), 1);
    }
}

// Goal: who kills the first process has killed the program: neither it nor its guard nor another life is left.
#[test]
fn a_killed_first_process_takes_the_application_along() {
    let scene = Scene::new();
    let options = [&FRONT[..], &["--restart", "always"], &HELD].concat();
    let front = scene.zoo(&options).spawn().expect("the zoo starts");
    worker_of(&scene);
    assert!(kill(front.id(), libc::SIGKILL));
    assert_eq!(scene.finish(front).signal(), Some(libc::SIGKILL));
    scene.settle();
    assert_eq!(scene.events("main").len(), 1);
}

/// Waits until a child of ours has changed its state in the way that is asked for.
fn await_state(pid: u32, options: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer refers to a living number.
    assert_eq!(unsafe { libc::waitpid(pid as i32, &raw mut status, options) }, pid as i32);
    status
}

// Goal: a stop of the application is a stop of the first process, by the same signal, and both go on with their group.
#[test]
fn a_stop_is_seen_and_a_continued_job_goes_on() {
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        let scene = Scene::new();
        let front = scene.zoo(&held_in_front()).spawn().expect("the zoo starts");
        let worker = worker_of(&scene);
        assert!(kill(worker, signal));
        let status = await_state(front.id(), libc::WUNTRACED);
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == signal, "{status:#x}");
        assert_eq!(state(worker), Some('T'));
        // SAFETY: no memory is involved; the group is the zoo's own.
        assert_eq!(unsafe { libc::kill(-(front.id() as i32), libc::SIGCONT) }, 0);
        assert!(libc::WIFCONTINUED(await_state(front.id(), libc::WCONTINUED)));
        scene.await_that("both go on", || state(worker).is_some_and(|state| state != 'T'));
        assert!(kill(front.id(), libc::SIGTERM));
        assert_eq!(scene.finish(front).signal(), Some(libc::SIGTERM));
        scene.settle();
    }
}

/// Where a descriptor of a process leads.
fn descriptor(pid: u32, number: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

// Goal: whatever the first process was given is the application's, and no pipe is held by who stands in front of it.
#[test]
fn descriptors_are_the_applications() {
    let scene = Scene::new();
    let file = File::create(scene.path("given")).expect("a file");
    let given = file.as_raw_fd();
    let mut command = scene.zoo(&held_in_front());
    let inherit = move || {
        // SAFETY: no memory is involved.
        if unsafe { libc::fcntl(given, libc::F_SETFD, 0) } == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure makes one system call and touches no memory.
    unsafe { command.pre_exec(inherit) };
    let front = command.stdout(Stdio::piped()).spawn().expect("the zoo starts");
    let worker = worker_of(&scene);
    let path = scene.path("given").display().to_string();
    assert_eq!(descriptor(worker, given).as_deref(), Some(path.as_str()));
    for number in [1, 2] {
        assert!(descriptor(worker, number).is_some_and(|it| it.starts_with("pipe:")));
        assert_eq!(descriptor(front.id(), number).as_deref(), Some("/dev/null"));
    }
    for entry in fs::read_dir(format!("/proc/{}/fd", front.id())).expect("its descriptors") {
        let link = fs::read_link(entry.expect("an entry").path()).expect("a link");
        assert_ne!(link.to_string_lossy(), path, "the front holds what isn't its own");
    }
    // The application sees nothing of ours.
    let own: Vec<String> = (3..64).filter_map(|number| descriptor(worker, number)).collect();
    let ours = ["/memfd:rearguard", "anon_inode:", "socket:"];
    assert!(!own.iter().any(|it| ours.iter().any(|prefix| it.starts_with(prefix))), "{own:?}");
    assert!(kill(front.id(), libc::SIGTERM));
    scene.finish(front);
    scene.settle();
}

// Goal: lives follow each other below one first process, each guarded, and their reports are all written.
#[test]
fn lives_follow_each_other_below_one_process() {
    let scene = Scene::new();
    let options = ["--lives", "5", "null-write"];
    let ended = scene.run_lives(&[&FRONT[..], &options].concat(), 6);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let guards = scene.events("guarded");
    assert!(guards.iter().all(|line| line.guard_pid == Some(ended.pid)), "{guards:#?}");
    let mut lives: Vec<u64> = scene
        .reports()
        .iter()
        .map(|it| it.json["incarnation"].as_u64().expect("a number"))
        .collect();
    lives.sort_unstable();
    assert_eq!(lives, [0, 1, 2, 3, 4]);
}

// Goal: a front that is silent at a crash keeps the application no longer than the dump's deadline, is not ended for it, and tells the true end once it goes on.
#[test]
fn a_silent_front_is_left_alone() {
    let scene = Scene::new();
    let options =
        ["--restart", "never", "--dump-wait-ms", "300", "--fail-spot", "crash-heard:stop"];
    let front = scene
        .zoo(&[&FRONT[..], &options, &["null-write"]].concat())
        .spawn()
        .expect("the zoo starts");
    let worker = worker_of(&scene);
    scene.await_that("the worker ends by itself", || state(worker) == Some('Z'));
    assert!(kill(front.id(), libc::SIGCONT));
    assert_eq!(scene.finish(front).signal(), Some(libc::SIGSEGV));
    scene.settle();
}

// Goal: a front that is killed at any of its steps leaves nobody behind.
#[test]
fn a_killed_front_leaves_nobody() {
    for spot in ["attached", "ready", "crash-heard", "stopped", "report-written", "before-answer"] {
        let scene = Scene::new();
        let spot = format!("{spot}:kill");
        let options =
            ["--topology", "guard-first", "--wait-ready", "--fail-spot", &spot, "null-write"];
        let ended = scene.run(&options);
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "{spot}: {ended:?}");
        assert!(scene.events("main").len() <= 1, "{spot}");
    }
}

// Goal: the argument of a front with no such child behind it ends the process, and never runs the application.
#[test]
fn a_front_without_a_worker_is_refused() {
    for argument in
        ["--rearguard-guard=1:front:1", "--rearguard-guard=1:front:", "--rearguard-guard=1:front:0"]
    {
        let scene = Scene::new();
        let mut command = scene.command("crashzoo");
        command.arg(argument).arg("--trace").arg(scene.trace_path()).arg("none");
        let ended = scene.finish(command.spawn().expect("the zoo starts"));
        assert_eq!(ended.code(), Some(98), "{argument}: {ended:?}");
        assert!(ended.stderr.contains("guard argument not usable"), "{argument}: {ended:?}");
        assert!(scene.trace().is_empty());
    }
}

// Goal: as process 1 the front guards, reaps what others leave, passes signals on, and tells the end by its code.
#[test]
fn process_one_has_its_duties() {
    needs_root!();
    let scene = Scene::new();
    let crash = [&FRONT[..], &["--restart", "never", "null-write"]].concat();
    let ended = scene.run_command(&mut scene.in_own_processes(&[], &crash));
    assert_eq!(ended.code(), Some(128 + libc::SIGSEGV), "{ended:?}");
    assert_eq!(scene.report().exception().0, libc::SIGSEGV);

    let scene = Scene::new();
    let auto = ["--topology", "auto", "--wait-guarded", "--tell-topology", "null-write"];
    let ended = scene.run_command(&mut scene.in_own_processes(&[], &auto));
    assert_eq!(ended.code(), Some(0), "a restart in place: {ended:?}");
    assert_eq!(scene.events("main").len(), 2);
}

// Goal: no process stands beside an application whose guard comes only for a crash; an end without one is its own affair.
#[test]
fn at_crash_has_no_resident_process() {
    let scene = Scene::new();
    let options = ["--topology", "at-crash", "--after", "600000", "none"];
    let worker = scene.zoo(&options).spawn().expect("the zoo starts");
    scene.await_event("armed", 1);
    assert_eq!(scene.processes().into_iter().collect::<Vec<u32>>(), [worker.id()]);
    assert!(kill(worker.id(), libc::SIGSEGV));
    assert_eq!(scene.finish(worker).signal(), Some(libc::SIGSEGV));
    scene.await_event("main", 2);
    scene.settle();
    assert_eq!(scene.report().json["late_guard"], true);

    let scene = Scene::new();
    let ended = scene.run(&["--topology", "at-crash", "panic"]);
    assert_eq!(ended.code(), Some(101));
    assert!(scene.reports().is_empty());
}

// Goal: the automatic choice looks at what started the program, and says what it has found.
#[test]
fn the_automatic_choice_says_why() {
    let said = |variable: Option<(&str, &str)>| {
        let scene = Scene::new();
        let mut command = scene.zoo(&["--topology", "auto", "--tell-topology", "none"]);
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        let ended = scene.run_command(&mut command);
        ended.stderr
    };
    assert!(said(None).contains("topology: WorkerFirst: nothing speaks"));
    let kubernetes = said(Some(("KUBERNETES_SERVICE_HOST", "10.0.0.1")));
    assert!(kubernetes.contains("topology: AtCrash: a service manager"), "{kubernetes}");
}

/// A shell with job control on a terminal of its own, in a session of its own.
struct Shell {
    terminal: File,
    child: std::process::Child,
    said: Vec<u8>,
}

impl Shell {
    fn new(scene: &Scene) -> Shell {
        let line = ["-c", "PS1='prompt> ' TERM=dumb exec bash --norc --noprofile -i"];
        let (terminal, child) = scene.on_a_terminal("bash", line);
        let mut shell = Shell { terminal, child, said: Vec::new() };
        shell.await_word("prompt> ");
        shell
    }

    fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    /// Reads until the shell or a program has said this.
    fn await_word(&mut self, word: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8_lossy(&self.said).into_owned();
            if let Some(at) = text.find(word) {
                self.said.drain(..at + word.len());
                return text[..at + word.len()].to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "no {word:?}: {text:?}");
            let mut entry =
                [libc::pollfd { fd: self.terminal.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
            // SAFETY: the array has one living entry.
            unsafe { libc::poll(entry.as_mut_ptr(), 1, 1_000) };
            if entry[0].revents & libc::POLLIN != 0 {
                let mut bytes = [0; 4096];
                let count = self.terminal.read(&mut bytes).expect("the terminal");
                self.said.extend_from_slice(&bytes[..count]);
            }
        }
    }

    /// A command line for this topology, and what is to follow on it.
    fn run_and(&mut self, scene: &Scene, topology: &str, options: &[&str], rest: &str) {
        let mut line = format!("{} --topology {topology}", program("crashzoo").display());
        for argument in scene.zoo(options).get_args() {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        self.type_in(&format!("{line}{rest}\n"));
    }

    /// The same, followed by a line that tells its status.
    fn run(&mut self, scene: &Scene, topology: &str, options: &[&str]) {
        // The line itself is echoed, and must not look like its own result.
        self.run_and(scene, topology, options, "; echo sta''tus=$?");
    }

    fn end(mut self) {
        self.type_in("exit\n");
        let status = self.child.wait().expect("the shell ends");
        assert!(status.code().is_some() || status.signal().is_some());
    }
}

// Goal: under a shell with job control, keys, stops and statuses are those of the application, wherever its guard stands; what is typed is the shell's once the job has ended.
#[test]
fn a_shells_job_control_is_undisturbed() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mut shell = Shell::new(&scene);

        // Ctrl-C.
        // The shell drops the rest of a line whose job ended by it.
        shell.run(&scene, topology, &["--after", "600000", "none"]);
        scene.await_event("armed", 1);
        shell.type_in("\x03");
        shell.await_word("prompt> ");
        shell.type_in("echo sta''tus=$?\n");
        shell.await_word("status=130");

        // Ctrl-Z, bg, fg, Ctrl-C.
        shell.run(&scene, topology, &["--after", "600000", "none"]);
        let worker = scene.await_event("armed", 2)[1].pid;
        shell.type_in("\x1a");
        shell.await_word("Stopped");
        scene.await_that("the application stands", || state(worker) == Some('T'));
        shell.type_in("bg\n");
        scene.await_that("it goes on", || state(worker).is_some_and(|state| state != 'T'));
        shell.type_in("jobs; echo do''ne\n");
        shell.await_word("Running");
        shell.await_word("done");
        shell.type_in("fg\n");
        scene.await_that("it is in the foreground", || is_foreground(worker));
        shell.type_in("\x03");
        shell.await_word("prompt> ");
        shell.type_in("echo sta''tus=$?\n");
        shell.await_word("status=130");

        // A crash, and three lines that are the shell's.
        shell.run(&scene, topology, &["--restart", "never", "null-write"]);
        shell.await_word("status=139");
        for word in ["one", "two", "three"] {
            shell.type_in(&format!("echo li''ne-{word}\n"));
            shell.await_word(&format!("line-{word}"));
        }
        shell.end();
        scene.settle();
    }
}

// Goal: when the terminal goes away under a shell, its jobs, in front and behind, are told as ever and end, wherever their guards stand: nobody is started again, and nobody stays.
#[test]
fn the_end_of_a_shells_terminal_ends_its_jobs() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mut shell = Shell::new(&scene);
        shell.run(&scene, topology, &["--after", "600000", "none"]);
        scene.await_event("armed", 1);
        shell.type_in("\x1a");
        shell.await_word("Stopped");
        shell.type_in("bg\n");
        shell.await_word("prompt> ");
        shell.run(&scene, topology, &["--wait-guarded", "--after", "600000", "none"]);
        scene.await_event("guarded", 1);
        let Shell { terminal, mut child, .. } = shell;
        drop(terminal);
        child.wait().expect("the shell ends");
        scene.settle();
        assert_eq!(scene.events("main").len(), 2, "{topology}");
    }
}

// Goal: a shell that leaves lets a job behind it go on, guarded as before.
#[test]
fn a_job_outlives_its_shell() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mut shell = Shell::new(&scene);
        let options = ["--wait-guarded", "--restart", "never", "--after", "600000", "none"];
        shell.run_and(&scene, topology, &options, " & disown");
        let worker = scene.await_event("guarded", 1)[0].pid;
        shell.type_in("exit\n");
        shell.child.wait().expect("the shell ends");
        assert!(state(worker).is_some());
        assert!(kill(worker, libc::SIGSEGV));
        scene.settle();
        assert_eq!(scene.report().exit_class(), ("crash".into(), Some(11)), "{topology}");
    }
}

/// Whether a process is in the foreground of its terminal.
fn is_foreground(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    matches!((fields.get(2), fields.get(5)), (Some(group), Some(foreground)) if group == foreground)
}

// Goal: a foreground job with its guard in front is started again in its place, on its terminal, while the shell waits.
#[test]
fn a_foreground_job_is_restarted_in_place() {
    let scene = Scene::new();
    let mut shell = Shell::new(&scene);
    shell.run(&scene, "auto", &["--wait-ready", "--tell-topology", "null-write"]);
    let said = shell.await_word("status=");
    assert!(said.contains("GuardFirst"), "{said}");
    shell.await_word("0");
    let lives = scene.events("main");
    assert_eq!(lives.len(), 2, "{said}");
    assert_eq!(said.matches("topology: GuardFirst").count(), 2, "both on the terminal: {said}");
    shell.end();
    scene.settle();
}

// Goal: a request to stop that comes between two lives, when no application can hear it, is no request that is lost.
#[test]
fn a_stop_between_two_lives_is_heard() {
    let scene = Scene::new();
    let delays = ["--lives", "5", "--first-delay-ms", "600000", "--max-delay-ms", "600000"];
    let front = scene
        .zoo(&[&FRONT[..], &delays, &["null-write"]].concat())
        .spawn()
        .expect("the zoo starts");
    // The first restart comes at once, the second after the delay.
    let second = scene.await_event("main", 2)[1].pid;
    scene.await_that("the second life is over", || state(second).is_none_or(|state| state == 'Z'));
    assert!(kill(front.id(), libc::SIGTERM));
    assert_eq!(scene.finish(front).signal(), Some(libc::SIGSEGV));
    scene.settle();
    assert_eq!(scene.events("main").len(), 2);
}

// Goal: the end of the terminal reaches an application below a front that leads its session.
#[test]
fn the_end_of_the_terminal_is_the_applications() {
    let scene = Scene::new();
    let zoo = scene.zoo(&held_in_front());
    let (terminal, front) = scene.on_a_terminal(zoo.get_program(), zoo.get_args());
    worker_of(&scene);
    drop(terminal);
    assert_eq!(scene.finish(front).signal(), Some(libc::SIGHUP));
    scene.settle();
}

// Goal: an application that was begun below a front and doesn't find it goes on without a guard, and begins nothing anew.
#[test]
fn a_lost_front_begins_nothing_anew() {
    let scene = Scene::new();
    let mut command = scene.zoo(&["--topology", "guard-first", "--health", "none"]);
    command.env("REARGUARD_LIFE", "7:1");
    let ended = scene.run_command(&mut command);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("what lies between has lost it"), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1);
    assert_eq!(scene.events("main")[0].pid, ended.pid);
}

// Goal: what an AppImage leaves in the environment of other programs is not what a front starts.
#[test]
fn a_front_starts_its_own_program() {
    let scene = Scene::new();
    let mut command = scene.zoo(&[&FRONT[..], &["exit-3"]].concat());
    command.env("APPIMAGE", "/bin/true");
    let ended = scene.run_command(&mut command);
    assert_eq!(ended.code(), Some(3), "{ended:?}");
}

// Goal: a low limit of descriptors is no hindrance for a front.
#[test]
fn a_low_limit_of_descriptors_is_no_hindrance() {
    let scene = Scene::new();
    let mut command = scene.zoo(&[&FRONT[..], &["null-write"]].concat());
    let lower = || {
        let limit = libc::rlimit { rlim_cur: 16, rlim_max: 16 };
        // SAFETY: the pointer refers to a living structure.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call and touches no memory.
    unsafe { command.pre_exec(lower) };
    let ended = scene.live_through(command, 2);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(scene.events("guarded").len(), 2);
    assert_eq!(scene.report().exception().0, libc::SIGSEGV);
}

// Goal: a program whose policy wants restarts, and that stands where none can happen, is told so at its start and not at its crash.
#[test]
fn a_job_that_cannot_be_restarted_knows_it() {
    const SAID: &str = "a crash is not followed by another life: it is a terminal's foreground job";
    for (topology, restart, is_told) in [
        ("worker-first", "on-crash", true),
        ("at-crash", "always", true),
        ("worker-first", "never", false),
        ("guard-first", "on-crash", false),
    ] {
        let scene = Scene::new();
        let options = ["--topology", topology, "--restart", restart, "--wait-guarded", "--health"];
        let zoo = scene.zoo(&[&options[..], &["none"]].concat());
        let (mut terminal, child) = scene.on_a_terminal(program("crashzoo"), zoo.get_args());
        scene.finish(child);
        let mut said = Vec::new();
        // Reading a terminal whose other end is closed ends in an error, after all that was written.
        let _ = terminal.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("health: "), "{topology}: {said}");
        assert_eq!(said.contains(SAID), is_told, "{topology}, {restart}: {said}");
        scene.settle();
    }
}
