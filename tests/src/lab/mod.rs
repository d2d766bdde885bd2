//! Network namespaces with cables between them, and the processes in them; dropped means gone.
//!
//! ```text
//!   server ns          lan ns                       client ns
//!     s0 ------------- port-s0 --+-- bridge --+-- port-c0 ------------- c0
//!    (XDP)            (XDP pass) |            |
//! ```
//!
//! Names carry the process id and a counter, so runs beside each other do not meet, and [`sweep`] can tell what
//! a killed run left behind. Commands enter a namespace by `setns` on a thread of their own: the file system stays
//! the machine's, and the process id is the program's.

mod latency;
mod mounts;
mod packet;
mod pass;
mod process;
mod tap;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub use latency::Processor;
pub use mounts::Mounts;
pub use packet::PacketSocket;
pub use pass::PassProgram;
pub use process::{Process, Signal};
pub use tap::{Passed, Tap};

/// Start of the name of every namespace of ours; the process id and a counter follow.
const PREFIX: &str = "xdhcpd";
/// Where iproute2 keeps named namespaces.
const NETNS_FOLDER: &str = "/run/netns";

/// The instant it is; the one clock of the proving ground.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests with real processes wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, as leases files count them.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "what real servers write is compared with the real clock")]
pub fn unix_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Asks `question` every few milliseconds until it has an answer.
///
/// # Errors
/// When there is none within `wait`; the error says what was waited for.
pub fn until<T>(what: &str, wait: Duration, mut question: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = now() + wait;
    loop {
        if let Some(answer) = question() {
            return Ok(answer);
        }
        if now() >= deadline {
            bail!("waited {wait:?} for {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether namespaces can be made here; the error is the reason for a skip.
///
/// # Errors
/// When root or iproute2 is missing, or the kernel refuses namespaces.
pub fn available() -> Result<(), String> {
    if !is_root() {
        return Err(String::from("needs root to make network namespaces"));
    }
    match Namespace::new("probe") {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("network namespaces cannot be made: {error:#}")),
    }
}

/// Whether BPF programs can be loaded here; the error is the reason for a skip.
///
/// # Errors
/// When the kernel, or what this runs in, refuses them.
pub fn bpf_available() -> Result<(), String> {
    PassProgram::load().map(drop).map_err(|error| format!("BPF programs cannot be loaded: {error:#}"))
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    #[expect(unsafe_code, reason = "std cannot tell the effective user id")]
    // SAFETY: geteuid takes nothing, writes nothing and cannot fail.
    let euid = unsafe { libc::geteuid() };
    euid == 0
}

/// The first file called `name` on the PATH or in the folders for administrators.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The same as a condition of a test.
///
/// # Errors
/// When there is no such program.
pub fn program(name: &str) -> Result<PathBuf, String> {
    find_program(name).ok_or_else(|| format!("{name} is not installed"))
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails; the error carries what it complained about.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip` with arguments separated by blanks.
fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(arguments.split_whitespace()))
}

/// A network namespace that goes when this value does.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with a name of its own that ends in `role`; its loopback is up.
    ///
    /// # Errors
    /// When the kernel or iproute2 refuses.
    pub fn new(role: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{count}-{role}", std::process::id());
        ip(&format!("netns add {name}"))?;
        let made = Self { name };
        made.ip("link set lo up")?;
        // Router solicitations and duplicate address detection are no part of any test.
        made.set("net/ipv6/conf/default/disable_ipv6", "1");
        made.set("net/ipv6/conf/all/disable_ipv6", "1");
        Ok(made)
    }

    /// Its name, for `ip -n`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it, with arguments separated by blanks.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Does something on a thread that lives in this namespace: sockets made and processes started there belong
    /// to it.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, what: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = File::open(Path::new(NETNS_FOLDER).join(&self.name))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                #[expect(unsafe_code, reason = "std cannot change the namespace of a thread")]
                // SAFETY: setns takes an open descriptor and a flag; it changes the namespace of this thread only,
                // which ends with the closure.
                let status = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                if status != 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(what())
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the work in the namespace panicked")))
        })
    }

    /// Starts a program in it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let shown = format!("{command:?}");
        self.enter(|| Process::spawn(command))?.with_context(|| format!("cannot start {shown}"))
    }

    /// Starts a program in it, and in a mount namespace.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_in(&self, mounts: &Mounts, command: &mut Command) -> Result<Process> {
        let shown = format!("{command:?}");
        self.enter(|| {
            mounts.join()?;
            Process::spawn(command)
        })?
        .with_context(|| format!("cannot start {shown}"))
    }

    /// As [`Self::enter`], and in a mount namespace.
    ///
    /// # Errors
    /// When one of them cannot be entered.
    pub fn enter_in<T: Send>(&self, mounts: &Mounts, what: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.enter(|| {
            mounts.join()?;
            Ok(what())
        })?
    }

    /// Starts a client in it, on another processor than its answers' way back (see `latency`).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_client(&self, command: &mut Command) -> Result<Process> {
        let shown = format!("{command:?}");
        self.enter(|| {
            Processor::First.bind(0)?;
            Process::spawn(command)
        })?
        .with_context(|| format!("cannot start {shown}"))
    }

    /// Runs a program in it to its end.
    ///
    /// # Errors
    /// When the program cannot be started or fails.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        self.enter(|| run(command))?
    }

    /// Opens a packet socket on an interface of this namespace.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn packet_socket(&self, interface: &str) -> io::Result<PacketSocket> {
        self.enter(|| PacketSocket::open(interface))?
    }

    /// Lets the other end of an XDP_TX receive: a program that passes everything (`measured.md` trap 1 of veth).
    ///
    /// # Errors
    /// When the kernel refuses the program or the driver XDP.
    pub fn attach_pass(&self, interface: &str) -> Result<PassProgram> {
        self.enter(|| PassProgram::attach(interface))?
    }

    /// Lets a kernel thread of its own, on one processor, receive what comes to an interface that runs XDP natively:
    /// otherwise the sender's processor does.
    ///
    /// # Errors
    /// When the kernel has no threaded NAPI for it.
    pub fn receive_on(&self, interface: &str, processor: Processor) -> Result<()> {
        latency::add(self, interface, processor)
    }

    /// The Ethernet address of an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.ip(&format!("-o link show {interface}"))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
        let mac = words.nth(1).with_context(|| format!("{interface} has no Ethernet address"))?;
        let mut bytes = [0; 6];
        for (byte, part) in bytes.iter_mut().zip(mac.split(':')) {
            *byte = u8::from_str_radix(part, 16)?;
        }
        Ok(bytes)
    }

    /// Whether a UDP socket with this local port is open in it: `/proc/net/udp` of a thread inside.
    #[must_use]
    pub fn has_udp_port(&self, port: u16) -> bool {
        let text = self.enter(|| std::fs::read_to_string("/proc/thread-self/net/udp"));
        let wanted = format!(":{port:04X}");
        matches!(text, Ok(Ok(text)) if text.lines().any(|line| {
            line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&wanted))
        }))
    }

    /// Writes a network setting of this namespace; what the kernel lacks is left alone.
    pub fn set(&self, name: &str, value: &str) {
        let file = Path::new("/proc/sys").join(name);
        let _ = self.enter(|| std::fs::write(file, value));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// A cable: `a` in one namespace, `b` in the other, both up.
///
/// # Errors
/// When `ip` refuses.
pub fn veth(one: &Namespace, a: &str, other: &Namespace, b: &str) -> Result<()> {
    one.ip(&format!("link add {a} type veth peer name {b} netns {}", other.name()))?;
    one.ip(&format!("link set {a} up"))?;
    other.ip(&format!("link set {b} up"))?;
    Ok(())
}

/// A switch: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    /// Makes the bridge; ports forward at once.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn new() -> Result<Self> {
        let namespace = Namespace::new("lan")?;
        namespace.ip("link add lan type bridge forward_delay 0")?;
        namespace.ip("link set lan up")?;
        Ok(Self { namespace })
    }

    /// Plugs a namespace in: `interface` appears there, `port-INTERFACE` here.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn plug(&self, namespace: &Namespace, interface: &str) -> Result<()> {
        let port = format!("port-{interface}");
        namespace.ip(&format!("link add {interface} type veth peer name {port} netns {}", self.namespace.name()))?;
        self.namespace.ip(&format!("link set {port} master lan"))?;
        self.namespace.ip(&format!("link set {port} up"))?;
        namespace.ip(&format!("link set {interface} up"))?;
        Ok(())
    }

    /// The namespace of the bridge.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Makes a server's native XDP_TX arrive at its port of the bridge, after the time a cable takes.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn attach_pass(&self, interface: &str) -> Result<PassProgram> {
        let port = format!("port-{interface}");
        let pass = self.namespace.attach_pass(&port)?;
        latency::add(&self.namespace, &port, Processor::Last)?;
        Ok(pass)
    }
}

/// A server and some clients on one switch.
#[derive(Debug)]
pub struct Lan {
    /// Where the server runs; its interface is `s0`.
    pub server: Namespace,
    /// Where the clients run; their interfaces are `c0`, `c1`, ...
    pub clients: Vec<Namespace>,
    /// The switch between them.
    pub switch: Switch,
    /// Why native XDP_TX would not arrive, when it would not.
    pub native_refused: Option<String>,
    _pass: Option<PassProgram>,
}

impl Lan {
    /// The server's interface.
    pub const SERVER: &str = "s0";

    /// Makes the stage; the server's address is `address/24`.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn new(address: Ipv4Addr, client_count: usize) -> Result<Self> {
        let switch = Switch::new()?;
        let server = Namespace::new("server")?;
        switch.plug(&server, Self::SERVER)?;
        server.ip(&format!("addr add {address}/24 dev {}", Self::SERVER))?;
        let mut clients = Vec::new();
        for index in 0..client_count {
            let client = Namespace::new(&format!("client{index}"))?;
            switch.plug(&client, &format!("c{index}"))?;
            clients.push(client);
        }
        let (pass, native_refused) = match switch.attach_pass(Self::SERVER) {
            Ok(pass) => (Some(pass), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Ok(Self { server, clients, switch, native_refused, _pass: pass })
    }

    /// What to tell xdhcpd's `--fast-path` here.
    #[must_use]
    pub fn fast_path(&self) -> &'static str {
        if self.native_refused.is_some() { "generic" } else { "native" }
    }
}

/// A folder that goes when this value does.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty folder below the system's temporary one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(role: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}-{}-{count}-{role}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// The same in memory, where syncing costs nothing: for what is not about the disk. Where there is no such file
    /// system, below the temporary folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_memory(role: &str) -> io::Result<Self> {
        let mut made = Self::new(role)?;
        let memory = Path::new("/dev/shm");
        if let (true, Some(name)) = (memory.is_dir(), made.path.file_name()) {
            let path = memory.join(name);
            std::fs::create_dir_all(&path)?;
            std::fs::remove_dir(std::mem::replace(&mut made.path, path))?;
        }
        Ok(made)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and returns where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let file = self.path.join(name);
        std::fs::write(&file, content)?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes namespaces of runs whose process is gone; returns how many.
#[must_use]
pub fn sweep() -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(NETNS_FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next())
        else {
            continue;
        };
        let is_alive = owner.parse::<u32>().is_err() || Path::new("/proc").join(owner).exists();
        if !is_alive && ip(&format!("netns del {name}")).is_ok() {
            count += 1;
        }
    }
    count
}
