//! TLS in front of a collector, which speaks none itself.
//!
//! A test file that uses it names it beside `common`: `#[path = "common/tls.rs"] mod tls;`.
//! Two threads a connection, one for each direction, so that neither waits for the other; all of them end with the front.

#![allow(dead_code, reason = "each test file uses its part of the stage")]
#![allow(clippy::expect_used, reason = "a stage that breaks is a failed test")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};

/// What is read at once. rustls takes as much in one call, and holds more of an answer than this.
const CHUNK_BYTES: usize = 4096;

/// A TLS server that hands everything on to a server without.
/// Dropping it closes all connections and joins all threads.
pub(crate) struct TlsFront {
    address: SocketAddr,
    authority: String,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Starts a front of the server at `to` on a free port of 127.0.0.1.
    ///
    /// Its certificate is for these names, signed by an authority of its own that nobody trusts unasked.
    pub(crate) fn start(to: SocketAddr, names: &[&str]) -> TlsFront {
        let (config, authority) = credentials(names);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || accept(&listener, to, &config, &stopping)
        });
        TlsFront { address, authority, stopping, acceptor: Some(acceptor) }
    }

    /// Where reports are to be sent. The host's name is `localhost`, whatever names the certificate has.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/submit", self.address.port())
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes the authority's certificate, in PEM, for clients that are to trust it.
    pub(crate) fn write_ca(&self, path: &Path) {
        fs::write(path, &self.authority).expect("the certificate is written");
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The acceptor sleeps in accept(); a connection of our own is what wakes it.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            // A panic in there was already printed; there is nobody left to tell.
            let _ = acceptor.join();
        }
    }
}

/// What a server of these names needs, and the certificate of the authority that vouches for it.
fn credentials(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("an authority of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of hosts");
    params.distinguished_name = called("a collector of a test");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict clients ask for it.
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");

    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("key and certificate belong together");
    (Arc::new(config), authority.pem())
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// One connection: the client's side, the server's side, and the cipher between them.
struct Link {
    client: TcpStream,
    server: TcpStream,
    session: Mutex<ServerConnection>,
}

/// The acceptor's whole life.
fn accept(
    listener: &TcpListener,
    to: SocketAddr,
    config: &Arc<ServerConfig>,
    stopping: &AtomicBool,
) {
    let mut open: Vec<(Arc<Link>, JoinHandle<()>)> = Vec::new();
    for client in listener.incoming() {
        if stopping.load(Ordering::Acquire) {
            break;
        }
        open.retain(|(_, thread)| !thread.is_finished());
        // A client that left again, or a server that isn't there: the client sees the end of its connection.
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(to) else { continue };
        let session = ServerConnection::new(Arc::clone(config)).expect("a session");
        let link = Arc::new(Link { client, server, session: Mutex::new(session) });
        let thread = thread::spawn({
            let link = Arc::clone(&link);
            move || link.serve()
        });
        open.push((link, thread));
    }
    for (link, _) in &open {
        link.end();
    }
    for (_, thread) in open {
        // As in Drop: a panic was printed already.
        let _ = thread.join();
    }
}

impl Link {
    /// Everything from the handshake to the end of both directions.
    fn serve(&self) {
        // A client that doesn't trust the certificate leaves here, and the server hears nothing.
        if self.session().complete_io(&mut &self.client).is_err() {
            return self.end();
        }
        thread::scope(|scope| {
            scope.spawn(|| self.or_end(self.hand_back()));
            self.or_end(self.hand_on());
        });
        self.end();
    }

    /// From the client to the server, until the client has nothing more to say.
    fn hand_on(&self) -> io::Result<()> {
        let mut cipher = [0; CHUNK_BYTES];
        // What came together with the end of the handshake.
        let mut plain = Vec::new();
        let mut is_over = decipher(&mut self.session(), &[], &mut plain)?;
        loop {
            (&self.server).write_all(&plain)?;
            if is_over {
                return self.server.shutdown(Shutdown::Write);
            }
            let count = (&self.client).read(&mut cipher)?;
            let came = cipher.get(..count).unwrap_or_default();
            plain.clear();
            is_over = decipher(&mut self.session(), came, &mut plain)? || count == 0;
        }
    }

    /// From the server to the client, until the server has nothing more to say.
    fn hand_back(&self) -> io::Result<()> {
        let mut plain = [0; CHUNK_BYTES];
        loop {
            let count = (&self.server).read(&mut plain)?;
            let mut cipher = Vec::new();
            {
                let mut session = self.session();
                match plain.get(..count).unwrap_or_default() {
                    [] => session.send_close_notify(),
                    came => session.writer().write_all(came)?,
                }
                while session.wants_write() {
                    session.write_tls(&mut cipher)?;
                }
            }
            // Outside of the lock: a client that doesn't read yet may still have something to say.
            (&self.client).write_all(&cipher)?;
            if count == 0 {
                return self.client.shutdown(Shutdown::Write);
            }
        }
    }

    /// A direction that broke is the end of the other one, too.
    fn or_end(&self, result: io::Result<()>) {
        if result.is_err() {
            self.end();
        }
    }

    /// Closes both sides, whoever reads or writes there.
    fn end(&self) {
        // An error means that it is closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn session(&self) -> MutexGuard<'_, ServerConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends what a client has said in these bytes; whether it has said its last word.
fn decipher(
    session: &mut ServerConnection,
    mut cipher: &[u8],
    plain: &mut Vec<u8>,
) -> io::Result<bool> {
    loop {
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let mut came = vec![0; state.plaintext_bytes_to_read()];
        session.reader().read_exact(&mut came)?;
        plain.append(&mut came);
        if cipher.is_empty() || state.peer_has_closed() {
            return Ok(state.peer_has_closed());
        }
        session.read_tls(&mut cipher)?;
    }
}
