//! Symbols from servers: asked only when that is wanted, kept, and believed only where they are the same build.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use object::Object;
use rearguard_cli::collector::{Collector, Script};
use serde_json::Value;

use crate::desk::{Desk, PATIENCE, Said};
use crate::windows::{crash_of, frames_in_source, frames_of, served_id};

/// A server of files, for as long as it lives.
struct Server {
    address: SocketAddr,
    /// What was asked for, in order.
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// One that has these files by their paths, and else answers with this status.
    fn start(files: HashMap<String, Vec<u8>>, otherwise: u16) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A connection that says nothing is its own end.
                if answer(&mut stream.unwrap(), &files, otherwise, &noted).is_none() {
                    return;
                }
            }
        });
        Server { address, asked, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn answer(
    stream: &mut TcpStream,
    files: &HashMap<String, Vec<u8>>,
    otherwise: u16,
    noted: &Mutex<Vec<String>>,
) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let got = stream.read(&mut bytes).unwrap_or(0);
        if got == 0 {
            return None;
        }
        head.extend_from_slice(&bytes[..got]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    noted.lock().unwrap().push(path.clone());
    let (status, body) = match files.get(&path) {
        Some(body) => (200, &body[..]),
        None => (otherwise, &b"nothing"[..]),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Whoever hangs up in the midst has its reasons.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    Some(())
}

/// A copy of the tool without debug information has crashed; its report, and the build id and debug information of the copy.
struct Stripped {
    desk: Desk,
    id: String,
    debug: Vec<u8>,
}

impl Stripped {
    fn crash() -> Stripped {
        let desk = Desk::new();
        let (program, debug) = (desk.path("app"), desk.path("app-debug"));
        let tool = Path::new(env!("CARGO_BIN_EXE_rearguard"));
        objcopy(&["--only-keep-debug"], tool, &debug);
        objcopy(&["--strip-all"], tool, &program);
        let collector = Collector::start(Script::default()).unwrap();
        let mut command = Command::new(&program);
        command.args(["demo-worker", desk.store().to_str().unwrap(), &collector.url()]);
        command.stdin(std::process::Stdio::null()).output().unwrap();
        desk.wait_for(|report| report["stage"] == "completed");
        let image = fs::read(&program).unwrap();
        let id = object::File::parse(&*image).unwrap().build_id().unwrap().unwrap().to_vec();
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let debug = fs::read(debug).unwrap();
        Stripped { desk, id, debug }
    }

    fn show(&self, more: &[&str]) -> (Said, Value) {
        let arguments = [&["show", "latest", "--json"], more].concat();
        let store = self.desk.store();
        let mut command = self.desk.command(&arguments);
        command.args(["--store", store.to_str().unwrap()]);
        command.env("XDG_CACHE_HOME", self.desk.path("cache")).env_remove("DEBUGINFOD_URLS");
        let said = crate::desk::said(command.output().unwrap());
        let shown = serde_json::from_str(&said.out).unwrap_or_default();
        (said, shown)
    }
}

fn objcopy(options: &[&str], from: &Path, to: &Path) {
    let status = Command::new("objcopy").args(options).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "objcopy {options:?}");
}

/// The place of the demo's bug, where it is known.
fn bug(shown: &Value) -> Option<u64> {
    let frames = shown["minidump"]["threads"][0]["frames"].as_array().unwrap();
    let mut lines = frames
        .iter()
        .filter(|frame| frame["file"].as_str().is_some_and(|file| file.ends_with("demo/bug.rs")));
    lines.next().and_then(|frame| frame["line"].as_u64())
}

/// Goal: a debuginfod server is asked by build id when it is named, for what lies on the stack; what it has is kept, and the next time nobody is asked.
#[test]
fn debug_information_comes_from_debuginfod() {
    let crash = Stripped::crash();
    let path = format!("/buildid/{}/debuginfo", crash.id);
    let server = Server::start(HashMap::from([(path.clone(), crash.debug.clone())]), 404);
    let (said, shown) = crash.show(&[]);
    assert_eq!((said.code, bug(&shown)), (0, None));
    assert!(server.asked().is_empty(), "nobody may be asked unless that is wanted");
    let (said, shown) = crash.show(&["--server", &server.url()]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(bug(&shown).is_some(), "{shown:#}");
    assert_eq!(server.asked().iter().filter(|asked| **asked == path).count(), 1);
    let before = server.asked().len();
    let (_, again) = crash.show(&[]);
    assert_eq!((bug(&again), server.asked().len()), (bug(&shown), before));
}

/// Goal: what a server gives for another build, or instead of a file, is not used and not kept.
#[test]
fn another_build_from_a_server_is_not_used() {
    let crash = Stripped::crash();
    let path = format!("/buildid/{}/debuginfo", crash.id);
    for lie in [&b"<html>login</html>"[..], &crash.debug[..1000], b""] {
        let server = Server::start(HashMap::from([(path.clone(), lie.to_vec())]), 404);
        let (said, shown) = crash.show(&["--server", &server.url()]);
        assert_eq!((said.code, bug(&shown)), (0, None));
        assert!(server.asked().contains(&path));
    }
    let kept = fs::read_dir(crash.desk.path("cache/rearguard/symbols/.build-id")).unwrap();
    let kept: Vec<PathBuf> = kept
        .flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept, Vec::<PathBuf>::new());
}

/// Goal: a server that fails is told once, in one line, and the others are asked all the same.
#[test]
fn a_server_that_fails_is_told() {
    let crash = Stripped::crash();
    let path = format!("/buildid/{}/debuginfo", crash.id);
    let broken = Server::start(HashMap::new(), 500);
    let server = Server::start(HashMap::from([(path, crash.debug.clone())]), 404);
    // Nobody listens there.
    let nobody = "http://127.0.0.1:9";
    let arguments = ["--server", &broken.url(), "--server", nobody, "--server", &server.url()];
    let (said, shown) = crash.show(&arguments);
    assert!(said.code == 0 && bug(&shown).is_some(), "{}", said.err);
    assert_eq!(broken.asked().len(), 1);
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("the server answered 500"), "{}", said.err);
    for (arguments, words) in [
        (&["--server", "ftp://x"][..], "--server ftp://x: neither http:// nor https://"),
        (&["--download"], "--download: DEBUGINFOD_URLS names no server"),
    ] {
        let (said, _) = crash.show(arguments);
        assert!(said.code == 2 && said.err.contains(words), "{}", said.err);
    }
}

/// Goal: a symbol server is asked for image and PDB file by name and identity, and Breakpad's symbols come from the same layout.
#[test]
fn pdb_and_sym_files_come_from_a_symbol_server() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pdb");
    let image = fs::read(data.join("bug.exe")).unwrap();
    let file = object::read::pe::PeFile64::parse(&*image).unwrap();
    let info = file.pdb_info().unwrap().unwrap();
    let id = served_id(&info.guid(), info.age());
    // The image by its time stamp in capitals, as symstore has it.
    let headers = file.nt_headers();
    let stamp = headers.file_header.time_date_stamp.get(object::LittleEndian);
    let size = headers.optional_header.size_of_image.get(object::LittleEndian);
    let exe = format!("/bug.exe/{stamp:08X}{size:x}/bug.exe");
    let sym = format!(
        "MODULE windows x86_64 {id} bug.pdb\nFILE 0 served.rs\nFUNC 1000 fff 0 from_sym\n1000 fff 42 0\n"
    );
    let pdb = fs::read(data.join("bug.pdb")).unwrap();
    for (name, bytes, is_pdb) in [("bug.pdb", pdb, true), ("bug.sym", sym.into_bytes(), false)] {
        let desk = Desk::new();
        let dump = desk.path("crash.dmp");
        fs::write(&dump, crash_of(&image)).unwrap();
        let path = format!("/bug.pdb/{id}/{name}");
        let files = [(path.clone(), bytes), (exe.clone(), image.clone())];
        let server = Server::start(HashMap::from(files), 404);
        let arguments = ["show", dump.to_str().unwrap(), "--json", "--server", &server.url()];
        let mut command = desk.command(&arguments);
        let said =
            crate::desk::said(command.env("XDG_CACHE_HOME", desk.path("cache")).output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        let shown: Value = serde_json::from_str(&said.out).unwrap();
        assert!(server.asked().contains(&path), "{:?}", server.asked());
        assert!(server.asked().contains(&exe), "{:?}", server.asked());
        let kept = desk.path("cache/rearguard/symbols").join(exe.trim_start_matches('/'));
        assert_eq!(fs::read(kept).unwrap(), image);
        let symbols = shown["minidump"]["modules"][0]["symbols"].as_str().unwrap();
        assert!(symbols.contains(if is_pdb { "lines from" } else { "Breakpad" }), "{symbols}");
        if is_pdb {
            let frames = frames_of(&shown);
            assert_eq!(frames[..2], frames_in_source());
            // The image has the unwind tables, by which the caller is found.
            assert_eq!((frames.len(), frames[2].0.as_str()), (3, "begin"));
        } else {
            let frame = &shown["minidump"]["threads"][0]["frames"][0];
            assert_eq!(
                (&frame["function"], &frame["line"]),
                (&"from_sym".into(), &42.into()),
                "{shown:#}"
            );
        }
    }
}
