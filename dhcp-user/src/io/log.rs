//! The log: dhcpd's plain lines on standard error, or syslog as dhcpd writes it.
//!
//! The engine's lines and those of the skin (`tracing` events) come together here. Nothing here waits: a syslog
//! daemon that does not keep up loses lines, and is told how many.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{Event, Metadata, Subscriber, field, span};

use crate::{engine::port::Level, io::clock};

/// Where syslog listens.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Longest line that is logged, in bytes.
const LINE_LEN_MAX: usize = 4096;
/// Lines kept for standard error before they are written, in bytes.
const BUFFER_LEN: usize = 1 << 16;

/// Syslog facilities by dhcpd.conf's names (`log-facility`), with their numbers (RFC 5424 6.2.1).
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Number of a facility; `None` for a name nobody knows.
#[must_use]
pub fn facility(name: &str) -> Option<u8> {
    FACILITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, number)| number)
}

/// The log of this process; clones write to the same one.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Sink>>);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

struct Sink {
    ident: String,
    least: Level,
    facility: u8,
    to_stderr: bool,
    syslog: Option<UnixDatagram>,
    buffer: Vec<u8>,
    lost: u64,
}

impl Log {
    /// A log to standard error that shows `least` and above. `ident` names the program in syslog.
    #[must_use]
    pub fn to_stderr(ident: &str, least: Level) -> Self {
        Self(Arc::new(Mutex::new(Sink {
            ident: ident.to_owned(),
            least,
            facility: 3,
            to_stderr: true,
            syslog: None,
            buffer: Vec::new(),
            lost: 0,
        })))
    }

    /// Makes `tracing` events of this process come here. Only the first log of a process can.
    pub fn install(&self) {
        // A second log in one process (tests) is not an error: its lines just do not come here.
        let _ = tracing::subscriber::set_global_default(Collector(self.clone()));
    }

    /// Sends lines to syslog from now on, besides standard error until [`Log::leave_stderr`].
    ///
    /// Returns whether there is a syslog.
    pub fn open_syslog(&self, facility: u8) -> bool {
        let mut sink = self.lock();
        sink.facility = facility;
        sink.syslog = connect();
        sink.syslog.is_some()
    }

    /// Whether lines go to syslog.
    #[must_use]
    pub fn has_syslog(&self) -> bool {
        self.lock().syslog.is_some()
    }

    /// Stops writing to standard error. What is left goes to syslog, if that is open.
    pub fn leave_stderr(&self) {
        self.flush();
        self.lock().to_stderr = false;
    }

    /// Writes a line. It may wait in memory until [`Log::flush`].
    pub fn line(&self, level: Level, text: &str) {
        let mut sink = self.lock();
        if level < sink.least {
            return;
        }
        sink.line(level, text);
    }

    /// Writes what waits: the event loop calls this before it sleeps.
    pub fn flush(&self) {
        self.lock().flush();
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    fn line(&mut self, level: Level, text: &str) {
        let text = cut(text.trim_end());
        if self.to_stderr {
            self.buffer.extend(text.bytes().map(printable));
            self.buffer.push(b'\n');
            if self.buffer.len() >= BUFFER_LEN || level >= Level::Warn {
                self.flush();
            }
        }
        if self.syslog.is_some() {
            self.send(level, text);
        }
    }

    fn send(&mut self, level: Level, text: &str) {
        if self.lost > 0 {
            let lost = self.lost;
            if self.send_one(Level::Warn, &format!("{lost} log lines were lost: syslog did not keep up")) {
                self.lost = 0;
            }
        }
        if !self.send_one(level, text) {
            self.lost += 1;
        }
    }

    fn send_one(&mut self, level: Level, text: &str) -> bool {
        let message = syslog_message(self.facility, level, &self.ident, text, clock::now().wall.secs());
        let Some(socket) = &self.syslog else { return false };
        match socket.send(&message) {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_) => {
                // The daemon was restarted: its socket is a new one.
                self.syslog = connect();
                self.syslog.as_ref().is_some_and(|socket| socket.send(&message).is_ok())
            }
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            // Nobody can be told that standard error is closed.
            let _ = std::io::stderr().lock().write_all(&self.buffer);
            self.buffer.clear();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SYSLOG_SOCKET).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// A client's words end up in the log: what is not printable becomes a question mark, also a line end.
fn printable(byte: u8) -> u8 {
    if byte.is_ascii_control() && byte != b'\t' { b'?' } else { byte }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LINE_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// One datagram as the C library's `syslog` writes it: priority, local time, ident, pid.
fn syslog_message(facility: u8, level: Level, ident: &str, text: &str, now: u32) -> Vec<u8> {
    let severity = match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
    };
    let priority = u32::from(facility) * 8 + severity;
    let time = i64::from(now);
    // SAFETY: tm is plain integers and a pointer; all zeroes is a value, and localtime_r fills it in.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call. Nothing in this process changes the environment.
    unsafe { libc::localtime_r(&raw const time, &raw mut local) };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = usize::try_from(local.tm_mon).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"Jan");
    let mut message = format!(
        "<{priority}>{month} {:2} {:02}:{:02}:{:02} {ident}[{}]: ",
        local.tm_mday,
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        std::process::id()
    )
    .into_bytes();
    message.extend(text.bytes().map(printable));
    message
}

/// Brings `tracing` events of the skin into the log: the message, then fields as `name=value`.
struct Collector(Log);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        level_of(metadata) >= self.0.lock().least
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.line(level_of(event.metadata()), &format!("{}{}", text.message, text.fields));
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl field::Visit for Text {
    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_message_has_the_shape_of_the_c_library() {
        let message = syslog_message(23, Level::Info, "dhcpd", "DHCPACK on 192.168.150.50", 1_700_000_000);
        let text = String::from_utf8(message).unwrap();
        let expected_end = format!(" dhcpd[{}]: DHCPACK on 192.168.150.50", std::process::id());
        assert!(text.starts_with("<190>Nov 14 ") || text.starts_with("<190>Nov 15 "), "{text}");
        assert!(text.ends_with(&expected_end), "{text}");
        assert_eq!(text.len(), "<190>Nov 14 22:13:20".len() + expected_end.len());
    }

    #[test]
    fn a_clients_line_end_does_not_begin_a_new_line() {
        let message = syslog_message(3, Level::Warn, "x", "a\nb\u{1b}[0m", 0);
        assert!(message.ends_with(b"a?b?[0m"));
        assert!(message.starts_with(b"<28>"));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "\u{e9}".repeat(3000);
        assert_eq!(cut(&text).len(), LINE_LEN_MAX);
        assert_eq!(cut(&format!("a{text}")).len(), LINE_LEN_MAX - 1);
    }

    #[test]
    fn facilities_are_known_by_dhcpds_names() {
        assert_eq!(facility("local7"), Some(23));
        assert_eq!(facility("Daemon"), Some(3));
        assert_eq!(facility("local8"), None);
    }
}
