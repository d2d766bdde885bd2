//! Real clients, as they are installed: udhcpc, dhclient, dhcpcd. Judges that nobody of this project wrote.
//!
//! All of them run in the foreground and end with their value. Their scripts do what RFC 2131 expects of a host:
//! put the address on the interface, since a renewal cannot be sent from a socket without it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::{Folder, Namespace, Process, find_program, run};

/// Sets and removes the address, by udhcpc's variables.
const UDHCPC_SCRIPT: &str = "#!/bin/sh\n\
    case \"$1\" in\n\
    bound|renew) ip addr replace \"$ip/${mask:-24}\" dev \"$interface\" ;;\n\
    deconfig) ip addr flush dev \"$interface\" ; ip link set \"$interface\" up ;;\n\
    esac\nexit 0\n";

/// Sets and removes the address, by dhclient's variables.
const DHCLIENT_SCRIPT: &str = "#!/bin/sh\n\
    case \"$reason\" in\n\
    BOUND|RENEW|REBIND|REBOOT) ip addr replace \"$new_ip_address/24\" dev \"$interface\" ;;\n\
    EXPIRE|FAIL|RELEASE|STOP) ip addr flush dev \"$interface\" ;;\n\
    PREINIT) ip link set \"$interface\" up ;;\n\
    esac\nexit 0\n";

/// A running client with its files.
#[derive(Debug)]
pub struct Peer {
    /// The process; its log is what it says.
    pub process: Process,
    /// Where its files are.
    pub folder: Folder,
}

/// Writes a script that can be run.
fn script(folder: &Folder, text: &str) -> Result<std::path::PathBuf> {
    let file = folder.write("script", text)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// Where a program is.
fn installed(name: &str) -> Result<std::path::PathBuf> {
    find_program(name).with_context(|| format!("{name} is not installed"))
}

/// Starts busybox's client. SIGUSR1 renews, SIGUSR2 releases; it says `lease of ADDRESS obtained` for every ACK.
///
/// # Errors
/// When it is not installed or cannot be started.
pub fn udhcpc(namespace: &Namespace, interface: &str, host_name: &str) -> Result<Peer> {
    let folder = Folder::new("udhcpc")?;
    let mut command = Command::new(installed("udhcpc")?);
    command.args(["-f", "-i", interface, "-t", "20", "-T", "1", "-s"]).arg(script(&folder, UDHCPC_SCRIPT)?);
    command.arg("-p").arg(folder.path().join("pid")).args(["-x", &format!("hostname:{host_name}")]);
    Ok(Peer { process: namespace.spawn_client(&mut command)?, folder })
}

/// Starts ISC's client. It renews at T1 by itself and says `bound to ADDRESS` for every ACK.
///
/// # Errors
/// When it is not installed or cannot be started.
pub fn dhclient(namespace: &Namespace, interface: &str, host_name: &str) -> Result<Peer> {
    let folder = Folder::new("dhclient")?;
    folder.write("leases", "")?;
    let configuration = folder.write(
        "conf",
        &format!("send host-name \"{host_name}\";\nrequest subnet-mask, routers, domain-name, domain-name-servers;\ninitial-interval 1;\n"),
    )?;
    let mut command = dhclient_command(&folder, &configuration)?;
    command.args(["-d", "-v", interface]);
    Ok(Peer { process: namespace.spawn_client(&mut command)?, folder })
}

/// Lets dhclient give its lease back; the running one ends with it.
///
/// # Errors
/// When it fails.
pub fn dhclient_release(namespace: &Namespace, interface: &str, peer: &Peer) -> Result<()> {
    let mut command = dhclient_command(&peer.folder, &peer.folder.path().join("conf"))?;
    command.args(["-r", "-v", interface]);
    namespace.run(&mut command).map(drop)
}

/// What every call of dhclient has in common.
fn dhclient_command(folder: &Folder, configuration: &Path) -> Result<Command> {
    let mut command = Command::new(installed("dhclient")?);
    command.arg("-4").arg("-cf").arg(configuration);
    command.arg("-lf").arg(folder.path().join("leases")).arg("-pf").arg(folder.path().join("pid"));
    command.arg("-sf").arg(script(folder, DHCLIENT_SCRIPT)?);
    Ok(command)
}

/// Starts dhcpcd. Its folders are fixed, so it gets a mount namespace of its own with empty ones.
///
/// # Errors
/// When it is not installed or cannot be started.
pub fn dhcpcd(namespace: &Namespace, interface: &str, host_name: &str) -> Result<Peer> {
    let folder = Folder::new("dhcpcd")?;
    let configuration = folder.write(
        "conf",
        &format!("hostname {host_name}\nclientid\noption domain_name_servers, domain_name, routers\nnoarp\nnoipv4ll\nipv4only\nscript /bin/true\n"),
    )?;
    let program = installed("dhcpcd")?;
    let stage = folder.write(
        "stage",
        &format!(
            "set -e\nmount --make-rprivate /\nmount -t tmpfs t /run\nmkdir -p /var/lib/dhcpcd\nmount -t tmpfs t /var/lib/dhcpcd\n\
             exec {} -4 -B -d -f {} {interface}\n",
            program.display(),
            configuration.display()
        ),
    )?;
    let mut command = Command::new(installed("unshare")?);
    command.arg("--mount").arg("sh").arg(stage);
    Ok(Peer { process: namespace.spawn_client(&mut command)?, folder })
}

/// Sends a command to a running dhcpcd: `-N` renews, `-k` releases.
///
/// # Errors
/// When it fails.
pub fn dhcpcd_command(interface: &str, peer: &Peer, what: &str) -> Result<()> {
    let mut command = Command::new(installed("nsenter")?);
    command.args(["--mount", "--net", "--target", &peer.process.id().to_string()]);
    command.arg(installed("dhcpcd")?).args(["-4", what, interface]);
    run(&mut command).map(drop)
}

/// The address in a line like `lease of 192.0.2.7 obtained`: the first one after `words`.
#[must_use]
pub fn address_after(line: &str, words: &str) -> Option<std::net::Ipv4Addr> {
    let rest = line.split(words).nth(1)?;
    let word = rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|word| word.contains('.'))?;
    word.trim_end_matches('.').parse().ok()
}

/// How long a client may take for an exchange on a loaded machine.
pub const WAIT: Duration = Duration::from_secs(15);
