//! The asking side: `xdhcpd status`, `xdhcpd leases` and `xdhcpd reload`.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{
    failover::{self, Order},
    message::{Answer, Command, Reply, Request, VERSION},
    metrics, table,
};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a reload may take: a large file is read, and names are looked up.
const RELOAD_PATIENCE: Duration = Duration::from_secs(130);
/// Longest reply line, in bytes: far above what a server sends.
const REPLY_LEN_MAX: u64 = 16 << 20;

/// Why there is no answer; a sentence for people.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no server answers at {path}: {error}\nIs xdhcpd running? Name its socket with --control, or its --state-dir."
    )]
    Unreachable {
        /// The socket.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("the server at {path} broke off: {error}")]
    Broken {
        /// The socket.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The reply makes no sense.
    #[error("the server's reply was not understood: {0}")]
    Reply(String),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// A conversation with a server.
#[derive(Debug)]
pub struct Client {
    path: String,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to a server's control socket.
    ///
    /// # Errors
    /// [`AskError::Unreachable`] when nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, AskError> {
        let name = path.display().to_string();
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { path: name, stream: BufReader::new(stream) }),
            Err(error) => Err(AskError::Unreachable { path: name, error }),
        }
    }

    /// Asks one question; returns the reply line as it came, and what it says.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(&mut self, command: Command) -> Result<(String, Answer), AskError> {
        let line = self.exchange(command).map_err(|error| AskError::Broken { path: self.path.clone(), error })?;
        let reply: Reply = serde_json::from_str(&line).map_err(|error| AskError::Reply(error.to_string()))?;
        if reply.version != VERSION {
            return Err(AskError::Reply(format!("it speaks version {}, this program {VERSION}", reply.version)));
        }
        match reply.answer {
            Answer::Error(error) => Err(AskError::Refused(error)),
            answer => Ok((line, answer)),
        }
    }

    fn exchange(&mut self, command: Command) -> io::Result<String> {
        let mut request = serde_json::to_vec(&Request { version: VERSION, command })?;
        request.push(b'\n');
        self.stream.get_mut().write_all(&request)?;
        self.line()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(REPLY_LEN_MAX).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }
}

/// Prints all leases of a server as they are on disk, then every change, until the server or the reader goes: a line of the
/// table each, or the reply as it came.
///
/// # Errors
/// See [`AskError`].
pub fn follow(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let mut client = Client::connect(path)?;
    let broken = |error| AskError::Broken { path: path.display().to_string(), error };
    let mut line = client.exchange(Command::Follow { from: None }).map_err(broken)?;
    if !json {
        writeln!(output, "{}", table::LEASES_HEAD)?;
    }
    loop {
        let reply: Reply = serde_json::from_str(&line).map_err(|error| AskError::Reply(error.to_string()))?;
        match reply.answer {
            Answer::Error(error) => return Err(AskError::Refused(error)),
            _ if json => write!(output, "{line}")?,
            Answer::Lease(row) => writeln!(output, "{}", table::lease(&row))?,
            // A pause: what was written so far can be read.
            Answer::Position(_) => output.flush()?,
            _ => return Err(another()),
        }
        line = client.line().map_err(broken)?;
    }
}

/// Lets a server rewrite its leases file, and prints what it says.
///
/// # Errors
/// See [`AskError`].
pub fn compact(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(Command::Compact)?;
    done(json, &line, answer, output)
}

fn done(json: bool, line: &str, answer: Answer, output: &mut impl io::Write) -> Result<(), AskError> {
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::Done(text) => writeln!(output, "{text}")?,
        _ => return Err(another()),
    }
    Ok(())
}

/// What to say of an answer to another question than was asked.
fn another() -> AskError {
    AskError::Reply("it answers another question".to_owned())
}

/// Prints what a server does: as a table, or the reply as it came.
///
/// # Errors
/// See [`AskError`].
pub fn status(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(Command::Status)?;
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::Status(status) => write!(output, "{}", table::status(&status))?,
        _ => return Err(another()),
    }
    Ok(())
}

/// Prints how the failover relationships of a server stand at `now` (seconds since 1970): as a page, or the reply as it
/// came.
///
/// # Errors
/// See [`AskError`].
pub fn failover(path: &Path, json: bool, now: u32, output: &mut impl io::Write) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(Command::Failover)?;
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::Failover(all) if all.is_empty() => writeln!(output, "this server has no failover peer")?,
        Answer::Failover(all) => write!(output, "{}", failover::page(&all, now))?,
        _ => return Err(another()),
    }
    Ok(())
}

/// Prints what a server counts, as Prometheus reads it.
///
/// # Errors
/// See [`AskError`].
pub fn metrics(path: &Path, output: &mut impl io::Write) -> Result<(), AskError> {
    let mut client = Client::connect(path)?;
    let (Answer::Status(status), Answer::FastPath(page), Answer::Failover(relationships)) =
        (client.ask(Command::Status)?.1, client.ask(Command::FastPath)?.1, client.ask(Command::Failover)?.1)
    else {
        return Err(another());
    };
    Ok(output.write_all(metrics::exposition(&status, &page, &relationships).as_bytes())?)
}

/// Prints how the fast path of a server does: as a page, or the reply as it came.
///
/// # Errors
/// See [`AskError`].
pub fn fast_path(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(Command::FastPath)?;
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::FastPath(page) => write!(output, "{}", table::fast_path(&page))?,
        _ => return Err(another()),
    }
    Ok(())
}

/// Gives the fast path of a server an order, and prints what was done.
///
/// # Errors
/// See [`AskError`].
pub fn fast_path_order(path: &Path, json: bool, command: Command, output: &mut impl io::Write) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(command)?;
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::Done(text) => writeln!(output, "{text}")?,
        _ => return Err(another()),
    }
    Ok(())
}

/// Waits for a client's next message, asking up to `rounds` times, and prints what became of it.
///
/// # Errors
/// See [`AskError`].
pub fn fast_path_trace(
    path: &Path,
    json: bool,
    mac: &str,
    rounds: u32,
    output: &mut impl io::Write,
) -> Result<(), AskError> {
    let mut client = Client::connect(path)?;
    for round in 1..=rounds.max(1) {
        let (line, answer) = client.ask(Command::FastPathTrace { mac: mac.to_owned() })?;
        let Answer::Traced(traced) = answer else { return Err(another()) };
        let is_last = round >= rounds;
        if traced.seen == "nothing" && !is_last {
            continue;
        }
        if json {
            write!(output, "{line}")?;
        } else {
            let armed =
                traced.armed.map_or_else(|| "nothing is armed".to_owned(), |address| format!("{address} is armed"));
            match traced.seen.as_str() {
                "kernel" => writeln!(output, "{mac}: answered by the kernel ({armed})")?,
                "agent" => {
                    writeln!(output, "{mac}: passed up, {}: {} ({armed})", traced.reason, traced.meaning)?;
                }
                _ => writeln!(output, "{mac}: no message came ({armed})")?,
            }
        }
        break;
    }
    Ok(())
}

/// Gives a failover relationship an order, and prints how it stands then.
///
/// # Errors
/// See [`AskError`]; [`AskError::Refused`] when the order cannot be followed.
pub fn order(
    path: &Path,
    json: bool,
    peer: Option<String>,
    order: Order,
    output: &mut impl io::Write,
) -> Result<(), AskError> {
    let (line, answer) = Client::connect(path)?.ask(Command::FailoverOrder { peer, order })?;
    done(json, &line, answer, output)
}

/// Lets a server read its configuration again, and prints what changed.
///
/// # Errors
/// See [`AskError`]; [`AskError::Refused`] when the running configuration stays.
pub fn reload(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let mut client = Client::connect(path)?;
    // Without it the patience is shorter, and nothing else is lost.
    let _ = client.stream.get_ref().set_read_timeout(Some(RELOAD_PATIENCE));
    let (line, answer) = client.ask(Command::Reload)?;
    match answer {
        _ if json => write!(output, "{line}")?,
        Answer::Reload(report) => {
            for line in report.warnings.iter().chain(&report.lines()) {
                writeln!(output, "{line}")?;
            }
        }
        _ => return Err(another()),
    }
    Ok(())
}

/// Prints all leases of a server, page by page: as a table, or as one JSON object.
///
/// # Errors
/// See [`AskError`].
pub fn leases(path: &Path, json: bool, output: &mut impl io::Write) -> Result<(), AskError> {
    let mut client = Client::connect(path)?;
    let mut from: Option<Ipv4Addr> = None;
    let mut is_first = true;
    if json {
        write!(output, "{{\"version\":{VERSION},\"leases\":{{\"rows\":[")?;
    } else {
        writeln!(output, "{}", table::LEASES_HEAD)?;
    }
    loop {
        let (line, answer) = client.ask(Command::Leases { from, limit: None })?;
        let Answer::Leases(page) = answer else {
            return Err(another());
        };
        if json {
            // Rows are passed on with fields that this program does not know.
            let reply: Value = serde_json::from_str(&line).map_err(|error| AskError::Reply(error.to_string()))?;
            for row in reply.pointer("/leases/rows").and_then(Value::as_array).into_iter().flatten() {
                let comma = if is_first { "" } else { "," };
                write!(output, "{comma}{row}")?;
                is_first = false;
            }
        } else {
            for row in &page.rows {
                writeln!(output, "{}", table::lease(row))?;
            }
        }
        match page.next {
            // A page that does not get on would never end.
            Some(next) if Some(next) > from => from = Some(next),
            Some(_) | None => break,
        }
    }
    if json {
        writeln!(output, "]}}}}")?;
    }
    Ok(())
}
