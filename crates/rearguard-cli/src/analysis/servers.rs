//! Symbols from servers: what isn't on this machine is fetched into a directory that is looked into like any other.
//!
//! Nobody is asked unless a person names a server or says that those of the environment may be.
//! What comes is kept under a name that its identity is part of, and counts only where the file itself says the same identity.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use minidump::{MinidumpModule, MinidumpModuleList, Module};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::files::{Found, by_build_id, ends_with, identity_of, served_path, stamps};
use super::walk::Walked;
use super::{SymbolPlaces, file_name, pdb};
use crate::failure::{Failure, Kind};
use crate::reports::user_directory;
use crate::terminal::{harmless, progress_bar};

/// Debug information of the largest programs of the field has some gigabytes.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// Files that servers are asked for at one call of the tool; a program has some hundred libraries.
const ASKED_MAX: usize = 1000;

/// How much is read of a file at once.
const PIECE_BYTES: usize = 64 * 1024;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(60);
const WHOLE_MAX: Duration = Duration::from_secs(20 * 60);

/// The variable that debuginfod's clients know: URLs with spaces between them.
const DEBUGINFOD_URLS: &str = "DEBUGINFOD_URLS";

/// The servers that are asked, in this order, and what is known of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers {
    servers: Vec<Server>,
    /// Where files are kept.
    cache: PathBuf,
    told: RefCell<Told>,
}

#[derive(Clone, Debug)]
struct Server {
    /// Without a slash at its end.
    url: String,
    /// Its connections, which serve for several files.
    agent: Agent,
}

#[derive(Clone, Debug, Default)]
struct Told {
    /// The URLs of servers that can't be reached: none is asked twice for that.
    silent: HashSet<String>,
    /// What was asked for already.
    asked: HashSet<String>,
    /// Nothing can be written where files are kept.
    has_no_place: bool,
}

impl SymbolPlaces {
    /// The same, and servers; what was fetched before is looked into in any case.
    pub(crate) fn with_servers(
        mut self,
        mut urls: Vec<String>,
        environment: bool,
    ) -> Result<SymbolPlaces, Failure> {
        if environment {
            let named = std::env::var(DEBUGINFOD_URLS).unwrap_or_default();
            urls.extend(named.split_whitespace().map(str::to_owned));
            if urls.is_empty() {
                let text = format!("--download: {DEBUGINFOD_URLS} names no server");
                return Err(Failure::new(Kind::Usage, text));
            }
        }
        let is_http = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if let Some(other) = urls.iter().find(|url| !is_http(url)) {
            let text = format!("--server {other}: neither http:// nor https://");
            return Err(Failure::new(Kind::Usage, text));
        }
        let Some(cache) = cache() else {
            let text = "neither XDG_CACHE_HOME nor HOME is set: there is no place for symbols";
            return if urls.is_empty() { Ok(self) } else { Err(Failure::new(Kind::Usage, text)) };
        };
        if !urls.is_empty() {
            std::fs::create_dir_all(&cache)
                .map_err(|error| Failure::from(format!("{}: {error}", cache.display())))?;
        }
        if cache.is_dir() {
            self.directories.push(cache.clone());
        }
        let servers = urls.iter().map(|url| Server::new(url)).collect();
        self.servers = Servers { servers, cache, told: RefCell::default() };
        Ok(self)
    }
}

/// Where fetched symbols are kept.
fn cache() -> Option<PathBuf> {
    Some(user_directory("XDG_CACHE_HOME", ".cache")?.join("rearguard/symbols"))
}

impl Server {
    fn new(url: &str) -> Server {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            // A redirect mustn't lead to where anybody between can put another file in the place of this one.
            .https_only(url.starts_with("https://"))
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(ANSWER_MAX))
            .timeout_global(Some(WHOLE_MAX))
            .user_agent(concat!("rearguard/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        Server { url: url.trim_end_matches('/').to_owned(), agent: config.build().into() }
    }
}

/// A file that a server may have.
struct Wanted {
    /// Below the server's URL.
    url: String,
    /// Below the cache.
    path: PathBuf,
    /// Whether a file is the one that is wanted.
    is_it: Box<dyn Fn(&Path) -> bool>,
}

impl Servers {
    /// Fetches what is missing for the modules on the stacks; whether anything came.
    pub(super) fn fetch(
        &self,
        modules: &MinidumpModuleList,
        found: &[Found],
        stacks: &[Walked],
    ) -> bool {
        if self.servers.is_empty() {
            return false;
        }
        let frames = stacks.iter().flat_map(Walked::frames);
        let used: HashSet<u64> =
            frames.filter_map(|frame| Some(frame.module.as_ref()?.base_address())).collect();
        let mut is_new = false;
        for (module, found) in modules.iter().zip(found) {
            if !used.contains(&module.base_address()) {
                continue;
            }
            for wanted in wanted(module, found) {
                is_new |= self.fetch_one(&wanted);
            }
        }
        is_new
    }

    fn fetch_one(&self, wanted: &Wanted) -> bool {
        let target = self.cache.join(&wanted.path);
        {
            let told = &mut *self.told.borrow_mut();
            let is_asked = told.asked.len() >= ASKED_MAX || !told.asked.insert(wanted.url.clone());
            if is_asked || told.has_no_place || (wanted.is_it)(&target) {
                return false;
            }
        }
        for server in &self.servers {
            if self.told.borrow().silent.contains(&server.url) {
                continue;
            }
            let url = format!("{}/{}", server.url, wanted.url);
            match download(&server.agent, &url, wanted, &target) {
                Asked::Came => return true,
                Asked::Lacks => {}
                Asked::Silent(problem) => {
                    eprintln!("rearguard: {}", harmless(&format!("{url}: {problem}")));
                    self.told.borrow_mut().silent.insert(server.url.clone());
                }
                Asked::NoPlace(problem) => {
                    eprintln!("rearguard: symbols can't be kept: {}", harmless(&problem));
                    self.told.borrow_mut().has_no_place = true;
                    return false;
                }
            }
        }
        false
    }
}

/// What a module lacks, the best first of each kind.
fn wanted(module: &MinidumpModule, found: &Found) -> Vec<Wanted> {
    let mut list = Vec::new();
    let has_lines = found.debug.is_some() || found.pdb.is_some();
    let code_id = module.code_identifier().map(|id| id.to_string().to_ascii_lowercase());
    let code_name = file_name(&module.code_file()).to_owned();
    let debug_name = module.debug_file().map(|path| file_name(&path).to_owned());
    if !is_plain(&code_name) || debug_name.as_ref().is_some_and(|name| !is_plain(name)) {
        return list;
    }
    let is_pdb = debug_name.as_ref().is_some_and(|name| ends_with(name, ".pdb"));
    let is_image = is_pdb || ends_with(&code_name, ".exe") || ends_with(&code_name, ".dll");
    if let Some(id) = code_id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        let is_it = |id: &str| -> Box<dyn Fn(&Path) -> bool> {
            let id = id.to_owned();
            Box::new(move |path: &Path| identity_of(path).as_ref() == Some(&id))
        };
        if is_image && found.binary.is_none() {
            for id_there in stamps(&id) {
                let path = served_path(&code_name, &id_there);
                list.push(Wanted { url: url_of(&path), path, is_it: is_it(&id) });
            }
        } else if !is_image {
            let kinds =
                [(!has_lines, "debuginfo", ".debug"), (found.binary.is_none(), "executable", "")];
            for (_, kind, ending) in kinds.into_iter().filter(|(is_missing, ..)| *is_missing) {
                if let Some(path) = by_build_id(&id, ending) {
                    list.push(Wanted {
                        url: format!("buildid/{id}/{kind}"),
                        path,
                        is_it: is_it(&id),
                    });
                }
            }
        }
    }
    if has_lines {
        return list;
    }
    if let (Some(name), Some(id), true) = (&debug_name, module.debug_identifier(), is_pdb) {
        let id = id.breakpad().to_string();
        let path = served_path(name, &id);
        let is_it = Box::new(move |path: &Path| pdb::identity(path).as_ref() == Some(&id));
        list.push(Wanted { url: url_of(&path), path, is_it });
    }
    if let (Some(name), Some(id)) = (&debug_name, module.debug_identifier()) {
        let id = id.breakpad().to_string();
        let stem = if is_pdb { &name[..name.len() - ".pdb".len()] } else { name };
        let path: PathBuf = [name, &id, &format!("{stem}.sym")].iter().collect();
        let is_it = Box::new(move |path: &Path| {
            sym_id(path).is_some_and(|own| own.eq_ignore_ascii_case(&id))
        });
        list.push(Wanted { url: url_of(&path), path, is_it });
    }
    list
}

/// A path below a URL (RFC 3986): names come from minidumps, and may have anything in them.
fn url_of(path: &Path) -> String {
    let mut url = String::new();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// Whether a name from a minidump can be one of a file, and of nothing else.
fn is_plain(name: &str) -> bool {
    let is_bad = |letter: char| matches!(letter, '/' | '\\') || letter.is_control();
    !matches!(name, "" | "." | "..") && !name.contains(is_bad)
}

/// The identity in the first line of a `.sym` file: `MODULE os processor id name`.
fn sym_id(path: &Path) -> Option<String> {
    let mut beginning = Vec::new();
    super::files::open(path)?.take(1024).read_to_end(&mut beginning).ok()?;
    let beginning = String::from_utf8_lossy(&beginning);
    let mut words = beginning.split_ascii_whitespace();
    (words.next()? == "MODULE").then_some(())?;
    words.nth(2).map(str::to_owned)
}

/// What came of asking a server for a file.
enum Asked {
    Came,
    /// It hasn't the right one.
    Lacks,
    /// It can't be asked again.
    Silent(String),
    /// Nobody's file can be kept here.
    NoPlace(String),
}

/// Fetches one file.
fn download(agent: &Agent, url: &str, wanted: &Wanted, target: &Path) -> Asked {
    let mut response = match agent.get(url).call() {
        Ok(response) => response,
        Err(error) => return Asked::Silent(error.to_string()),
    };
    match response.status().as_u16() {
        200 => {}
        404 | 410 => return Asked::Lacks,
        status => return Asked::Silent(format!("the server answered {status}")),
    }
    let bytes = response.body().content_length();
    let no_place = |error: io::Error| Asked::NoPlace(format!("{}: {error}", target.display()));
    let directory = target.parent().unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(directory);
    let mut file = match made.and_then(|()| tempfile::NamedTempFile::new_in(directory)) {
        Ok(file) => file,
        Err(error) => return no_place(error),
    };
    let bar = progress_bar(bytes);
    bar.set_message(harmless(file_name(url)));
    let body = response.body_mut().with_config().limit(FILE_BYTES_MAX).reader();
    let mut body = bar.wrap_read(body);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let got = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) => return Asked::Silent(error.to_string()),
        };
        if let Err(error) = file.write_all(piece.get(..got).unwrap_or_default()) {
            return no_place(error);
        }
    }
    bar.finish_and_clear();
    if !(wanted.is_it)(file.path()) {
        return Asked::Lacks;
    }
    let kept = file.as_file().sync_all().and_then(|()| Ok(file.persist(target)?));
    kept.map_or_else(no_place, |_| Asked::Came)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no name from a minidump leads out of the cache, or to another place of a server.
    #[test]
    fn names_stay_names() {
        for name in ["", ".", "..", "a/b", "..\\x", "a\0", "a\x1b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain("lib a.so") && is_plain("..."));
        let path = served_path("a b?#%.pdb", "1F");
        assert_eq!(url_of(&path), "a%20b%3F%23%25.pdb/1F/a%20b%3F%23%25.pdb");
    }

    /// Goal: whose symbols they are is read from the first line alone.
    #[test]
    fn the_first_line_of_symbols_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"MODULE Linux x86_64 ABC123 app\nFILE 0 x\n").unwrap();
        assert_eq!(sym_id(file.path()).as_deref(), Some("ABC123"));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"<html> a b c d").unwrap();
        assert_eq!(sym_id(file.path()), None);
    }
}
