//! An HTTP server that takes crash reports as the collectors of the field do, and is stricter than they are.
//!
//! For tests and for the demo: it listens on loopback, keeps what it was sent, notes every rule of the upload format that a request breaks, and answers from a [`Script`], which includes the answers that a client dreads.
//! It must never be exposed to a network: it bounds what it reads, but it has no access control.
//!
//! Plain threads and sockets: a connection is one request, a request is one thread, and the end of the collector ends them all.

mod http;
mod multipart;
mod script;
mod submission;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use script::{Answer, Script};
pub use submission::{Part, Submission, Violation};

/// More connections at once than any test makes; further ones are closed unread, so that a runaway client shows.
const CONNECTIONS_MAX: usize = 256;

/// The path of [`Collector::url`]; any other path is served as well.
const PATH: &str = "/submit";

/// A running collector.
/// Dropping it closes all connections and joins all threads.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a collector have in common.
#[derive(Debug)]
struct Shared {
    script: Script,
    state: Mutex<State>,
    /// Signalled when a submission is complete, and when the collector stops.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// The heads that were read so far: the next request's place in the script.
    requests: usize,
    submissions: Vec<Submission>,
}

impl Collector {
    /// Starts a collector on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port or no thread can be had.
    pub fn start(script: Script) -> io::Result<Collector> {
        Collector::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script)
    }

    /// Starts a collector on a given address.
    ///
    /// # Errors
    ///
    /// When the address is taken, or no thread can be had.
    pub fn bind(address: SocketAddr, script: Script) -> io::Result<Collector> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let acceptor = thread::Builder::new().name("collector".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Collector { address, shared, acceptor: Some(acceptor) })
    }

    /// Where reports are to be sent.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All submissions so far, in the order in which they were complete.
    pub fn submissions(&self) -> Vec<Submission> {
        self.shared.lock().submissions.clone()
    }

    /// Waits until at least `count` submissions are there, and returns all of them.
    ///
    /// A submission counts once it is read, before it is answered, so that requests count too that never get an answer.
    /// Who drops the collector at once may therefore cut the answer off.
    ///
    /// # Errors
    ///
    /// When there are fewer after `within`; the error carries those that came.
    pub fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<Submission>, TooFew> {
        let deadline = Instant::now() + within;
        let mut state = self.shared.lock();
        loop {
            if state.submissions.len() >= count {
                return Ok(state.submissions.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TooFew { wanted: count, within, came: state.submissions.clone() });
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Waits for a submission and takes it out, so that a collector can run for ever without growing.
    pub fn take(&self, within: Duration) -> Option<Submission> {
        self.wait_for(1, within).ok()?;
        let mut state = self.shared.lock();
        if state.submissions.is_empty() { None } else { Some(state.submissions.remove(0)) }
    }

    /// Waits for `quiet`, in which no submission beyond the first `count` may come.
    ///
    /// # Errors
    ///
    /// When a further one came; the error carries all of them.
    pub fn expect_no_more(&self, count: usize, quiet: Duration) -> Result<(), TooMany> {
        match self.wait_for(count + 1, quiet) {
            Ok(came) => Err(TooMany { expected: count, came }),
            Err(_too_few) => Ok(()),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        // The acceptor sleeps in accept(); a connection of our own is what wakes it.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let woken = TcpStream::connect_timeout(&own, Duration::from_secs(1)).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            // A panic in there was already printed; there is nobody left to tell.
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is in there is consistent after every statement, so a panicking thread leaves nothing broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes the next place in the script.
    fn next_number(&self) -> usize {
        let mut state = self.lock();
        state.requests += 1;
        state.requests
    }

    fn keep(&self, submission: Submission) {
        self.lock().submissions.push(submission);
        self.changed.notify_all();
    }

    /// Sleeps, but not longer than the collector lives.
    /// Returns whether it still does.
    fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stopping || left.is_zero() {
                return !state.stopping;
            }
            state = self.wait(state, left);
        }
    }
}

/// The acceptor's own descriptor of a connection, by which it wakes the thread that serves it.
/// It is gone where the end of the thread's descriptor is to be the end of the connection.
#[derive(Debug)]
struct AcceptorsCopy(Mutex<Option<TcpStream>>);

impl AcceptorsCopy {
    /// Takes it away, so that the thread's descriptor is the last one.
    fn take(&self) -> Option<TcpStream> {
        self.lock().take()
    }

    /// Ends the connection, and with it whatever read or write its thread is in.
    fn shut_down(&self) {
        if let Some(stream) = self.lock().as_ref() {
            // An error means that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<TcpStream>> {
        // It is there or it isn't, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and the thread that serves it.
struct Served {
    copy: Arc<AcceptorsCopy>,
    thread: JoinHandle<()>,
}

/// The acceptor's whole life.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut open: Vec<Served> = Vec::new();
    for connection in listener.incoming() {
        if shared.lock().stopping {
            break;
        }
        open.retain(|served| !served.thread.is_finished());
        // A connection that failed before it was accepted is the client's trouble.
        let Ok(connection) = connection else { continue };
        if open.len() < CONNECTIONS_MAX
            && let Some(served) = serve_in_thread(connection, shared)
        {
            open.push(served);
        }
    }
    for served in &open {
        served.copy.shut_down();
    }
    for served in open {
        // As in Drop: a panic was printed already.
        let _ = served.thread.join();
    }
}

fn serve_in_thread(connection: TcpStream, shared: &Arc<Shared>) -> Option<Served> {
    let copy = Arc::new(AcceptorsCopy(Mutex::new(Some(connection.try_clone().ok()?))));
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name("collector-request".to_owned())
        .spawn({
            let copy = Arc::clone(&copy);
            move || http::serve(connection, &copy, &shared)
        })
        .ok()?;
    Some(Served { copy, thread })
}

/// Fewer submissions than waited for.
#[derive(Debug)]
pub struct TooFew {
    /// How many were waited for.
    pub wanted: usize,
    /// How long.
    pub within: Duration,
    /// Those that came.
    pub came: Vec<Submission>,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooFew { wanted, within, came } = self;
        write!(f, "{} of {wanted} reports reached the collector within {within:?}", came.len())
    }
}

impl std::error::Error for TooFew {}

/// More submissions than there should be.
#[derive(Debug)]
pub struct TooMany {
    /// How many there should be.
    pub expected: usize,
    /// Those that came.
    pub came: Vec<Submission>,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reports reached the collector, not {}", self.came.len(), self.expected)
    }
}

impl std::error::Error for TooMany {}
