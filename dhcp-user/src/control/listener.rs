//! The listening side: accepts operators, reads a line, asks the event loop, writes a line.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::message::{Answer, Command, Reply, Request, VERSION};

/// Operators at the same time; the next one is turned away.
const CLIENTS_MAX: usize = 16;
/// Longest request, in bytes.
const REQUEST_LEN_MAX: u64 = 4096;
/// Questions that may wait for the event loop.
const QUESTIONS_MAX: usize = CLIENTS_MAX;
/// How long a client may take for a line, and the event loop for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reload may take: a large file is read, and names are looked up.
const RELOAD_PATIENCE: Duration = Duration::from_secs(120);

/// A question for the event loop, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub command: Command,
    /// The answer; a client that went away is no error.
    pub answer: oneshot::Sender<Answer>,
}

/// Writes reply lines to somebody who follows the leases, from a position on, until that one is gone.
pub type Tail = dyn Fn(Option<u64>, &mut dyn io::Write) -> io::Result<()> + Send + Sync;

/// The socket, removed when it is dropped.
pub struct Door {
    path: PathBuf,
    tail: Arc<OnceLock<Box<Tail>>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Door {
    /// Sets what those get who follow; until then they are told that it is too early.
    pub fn set_tail(&self, tail: Box<Tail>) {
        // A second one would be a second journal.
        let _ = self.tail.set(tail);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // A server that cannot remove its socket still stops; the next one finds nobody behind it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the socket at `path`, and answers operators until the runtime ends. Must be called inside a tokio runtime.
///
/// # Errors
/// A sentence that names the socket: another server answers there, or the place cannot be written.
pub fn open(path: &Path) -> Result<(Door, mpsc::Receiver<Asked>), String> {
    let listener = bind(path).map_err(|error| format!("control socket {}: {error}", path.display()))?;
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    let tail = Arc::new(OnceLock::new());
    tokio::spawn(accept(listener, sender, Arc::clone(&tail)));
    Ok((Door { path: path.to_owned(), tail }, receiver))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("there is a file that is not a socket; name another place with --control"));
        }
        if StdStream::connect(path).is_ok() {
            return Err(io::Error::other("another server answers there; name another place with --control"));
        }
        fs::remove_file(path)?;
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, questions: mpsc::Sender<Asked>, tail: Arc<OnceLock<Box<Tail>>>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others have to close some first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (questions, tail) = (questions.clone(), Arc::clone(&tail));
        tokio::spawn(async move {
            // A client that breaks off is its own affair.
            if let Ok(Some(follower)) = converse(stream, &questions).await {
                // It may take long, and must not keep a stop of the server waiting: a thread that nobody joins.
                std::thread::spawn(move || {
                    let _ = serve(follower, &tail);
                    drop(place);
                });
            }
        });
    }
}

/// Somebody who follows, and from where.
struct Follower {
    stream: StdStream,
    from: Option<u64>,
}

fn serve(mut follower: Follower, tail: &OnceLock<Box<Tail>>) -> io::Result<()> {
    follower.stream.set_nonblocking(false)?;
    follower.stream.set_write_timeout(Some(PATIENCE))?;
    match tail.get() {
        Some(tail) => tail(follower.from, &mut follower.stream),
        None => {
            let answer = Answer::Error("the server is still reading its leases".to_owned());
            let mut line = serde_json::to_vec(&answer.into_reply())?;
            line.push(b'\n');
            io::Write::write_all(&mut follower.stream, &line)
        }
    }
}

/// Answers one operator until that one goes, or wants to follow.
async fn converse(stream: UnixStream, questions: &mpsc::Sender<Asked>) -> io::Result<Option<Follower>> {
    let peer = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    // The socket's mode says the same; this holds where its directory is shared.
    if peer != 0 && peer != own_uid()? {
        let answer = Answer::Error("only root and the server's own user may ask".to_owned());
        return write(&mut writer, &answer.into_reply()).await.map(|()| None);
    }
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(REQUEST_LEN_MAX);
        let len = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
        if len == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') && len as u64 == REQUEST_LEN_MAX {
            let answer = Answer::Error(format!("a request has at most {REQUEST_LEN_MAX} bytes"));
            return write(&mut writer, &answer.into_reply()).await.map(|()| None);
        }
        let answer = match parse(&line) {
            Ok(Command::Follow { from }) => {
                let stream = reader.into_inner().reunite(writer).map_err(io::Error::other)?.into_std()?;
                return Ok(Some(Follower { stream, from }));
            }
            Ok(command) => ask(command, questions).await,
            Err(error) => Answer::Error(error),
        };
        write(&mut writer, &answer.into_reply()).await?;
    }
}

fn own_uid() -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/proc/self")?.uid())
}

fn parse(line: &[u8]) -> Result<Command, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    if versioned.version != VERSION {
        return Err(format!("this server speaks version {VERSION}, not {}", versioned.version));
    }
    let request: Request = serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    Ok(request.command)
}

async fn ask(command: Command, questions: &mpsc::Sender<Asked>) -> Answer {
    let (answer, reply) = oneshot::channel();
    let patience = if command == Command::Reload { RELOAD_PATIENCE } else { PATIENCE };
    let asked = async {
        questions.send(Asked { command, answer }).await.ok()?;
        reply.await.ok()
    };
    match timeout(patience, asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Answer::Error("the server is stopping".to_owned()),
        Err(_) => Answer::Error("the server is too busy to answer".to_owned()),
    }
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::Page;
    use std::io::{BufRead as _, Read as _, Write as _};

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("xdhcpd-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// Runs a server that answers every question with an empty page while `client` talks to it.
    fn with_server(name: &str, client: impl FnOnce(&Path) + Send + 'static) {
        let directory = directory(name);
        let path = directory.join("sub/control.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (door, mut questions) = open(&path).unwrap();
            let socket = path.clone();
            let mut client = tokio::task::spawn_blocking(move || client(&socket));
            loop {
                tokio::select! {
                    done = &mut client => break done.unwrap(),
                    Some(asked) = questions.recv() => {
                        let _ = asked.answer.send(Answer::Leases(Page::default()));
                    }
                }
            }
            drop(door);
        });
        assert!(!path.exists(), "the socket goes with the server");
        fs::remove_dir_all(directory).unwrap();
    }

    fn line_for(path: &Path, request: &[u8]) -> String {
        let mut stream = StdStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        let mut line = String::new();
        io::BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn one_line_is_answered_with_one_line_as_often_as_asked() {
        with_server("lines", |path| {
            let mut stream = StdStream::connect(path).unwrap();
            for _ in 0..3 {
                stream.write_all(b"{\"version\":1,\"command\":\"leases\"}\n").unwrap();
                let mut reply = [0; 35];
                stream.read_exact(&mut reply).unwrap();
                assert_eq!(&reply, b"{\"version\":1,\"leases\":{\"rows\":[]}}\n");
            }
        });
    }

    #[test]
    fn what_is_not_a_request_is_answered_with_an_error() {
        with_server("errors", |path| {
            assert!(line_for(path, b"hello\n").contains("not a request"));
            assert!(line_for(path, b"{\"version\":2,\"command\":\"status\"}\n").contains("speaks version 1"));
            assert!(line_for(path, b"{\"version\":1,\"command\":\"reboot\"}\n").contains("not a request"));
            assert!(line_for(path, &[b'x'; 5000]).contains("at most 4096 bytes"));
        });
    }

    #[test]
    fn more_clients_than_there_are_places_are_turned_away() {
        with_server("places", |path| {
            let idle: Vec<StdStream> = (0..CLIENTS_MAX).map(|_| StdStream::connect(path).unwrap()).collect();
            let mut one_more = StdStream::connect(path).unwrap();
            let mut rest = Vec::new();
            assert_eq!(one_more.read_to_end(&mut rest).unwrap(), 0);
            drop(idle);
        });
    }

    #[test]
    fn a_socket_is_only_for_its_owner_and_a_second_server_is_refused() {
        with_server("owner", |path| {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let error = runtime.block_on(async { open(path).unwrap_err() });
            assert!(error.contains("another server answers there"), "{error}");
        });
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_taken_over_and_a_file_is_not() {
        let directory = directory("stale");
        let stale = directory.join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let file = directory.join("file");
        fs::write(&file, "precious").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(open(&stale).is_ok());
            assert!(open(&file).unwrap_err().contains("not a socket"));
        });
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_dir_all(directory).unwrap();
    }
}
