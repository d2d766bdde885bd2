//! Paths and settings of a server: the command line, dhcpd's environment variables, the configuration, dhcpd's
//! defaults, in the order in which dhcpd lets them win.

use std::{env, path::PathBuf};

use crate::{
    config::Config,
    engine,
    io::{
        clock,
        command::{self, Serve},
        log, network,
    },
    lease::journal::Format,
};

/// Paths and settings after command line, environment and configuration have had their say.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Configuration file.
    pub(super) config: PathBuf,
    /// Leases file.
    pub(super) leases: PathBuf,
    /// Pid file, unless none is wanted.
    pub(super) pid: Option<PathBuf>,
    /// Control socket.
    pub(super) control: PathBuf,
    /// UDP port.
    pub(super) port: u16,
    /// How records are written.
    pub(super) format: Format,
    /// Number of the syslog facility.
    pub(super) facility: u8,
    /// A hash of the configuration as it was read.
    pub(super) made_of: u64,
}

impl Plan {
    /// What `serve`, the environment and `config` together mean; writes the ports into `config`, where the engine
    /// looks for them.
    ///
    /// # Errors
    /// A sentence about what makes no sense.
    pub(super) fn new(serve: &Serve, file: PathBuf, config: &mut Config) -> Result<Self, String> {
        let process = &mut config.process;
        let port = serve.port.or(process.local_port).unwrap_or(dhcp_ebpf::wire::ethernet::PORT_SERVER);
        // dhcpd: with -p clients are answered on the next port, whatever the configuration says.
        let remote = process.remote_port.filter(|_| serve.port.is_none());
        process.local_port = Some(port);
        process.remote_port = Some(remote.unwrap_or(network::client_port(port)));
        let facility = match &process.log_facility {
            None => 3,
            Some(name) => log::facility(name).ok_or_else(|| format!("log-facility {name}: no such facility"))?,
        };
        let of_config = |name: &Option<String>| name.as_ref().map(PathBuf::from);
        let leases = of_config(&process.lease_file)
            .or_else(|| chosen(serve.leases.as_ref(), "PATH_DHCPD_DB"))
            .unwrap_or_else(|| command::LEASES_DEFAULT.into());
        let pid = of_config(&process.pid_file)
            .or_else(|| chosen(serve.pid.as_ref(), "PATH_DHCPD_PID"))
            .unwrap_or_else(|| command::PID_DEFAULT.into());
        Ok(Self {
            config: file,
            leases: absolute(leases)?,
            pid: if serve.no_pid { None } else { Some(absolute(pid)?) },
            control: absolute(command::control_path(serve.control.as_ref(), serve.state_dir.as_ref()))?,
            port,
            format: engine::format(config, clock::utc_offset_secs()),
            facility,
            made_of: 0,
        })
    }
}

/// What the command line says, else the environment (dhcpd reads the same variables).
pub(super) fn chosen(option: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
    option.cloned().or_else(|| env::var_os(variable).map(PathBuf::from))
}

/// A daemon leaves its directory: paths must not depend on it.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, io::command::Cli};
    use clap::Parser as _;
    use std::ffi::OsString;

    fn plan(line: &str, text: &str) -> Result<(Plan, config::Process), String> {
        let loaded = config::load("dhcpd.conf", &mut |_| Ok(text.as_bytes().to_vec()));
        let mut config = loaded.config.unwrap();
        let arguments = command::translate(line.split_whitespace().map(OsString::from)).unwrap();
        let serve = Cli::try_parse_from(arguments).unwrap().serve;
        let plan = Plan::new(&serve, "/etc/dhcp/dhcpd.conf".into(), &mut config)?;
        Ok((plan, config.process))
    }

    #[test]
    fn the_port_of_the_command_line_wins_and_clients_are_answered_on_the_next() {
        let ports = |line, text| {
            let (plan, process) = plan(line, text).unwrap();
            assert_eq!(process.local_port, Some(plan.port));
            (plan.port, process.remote_port.unwrap())
        };
        assert_eq!(ports("xdhcpd", ""), (67, 68));
        assert_eq!(ports("xdhcpd -p 1067", ""), (1067, 1068));
        assert_eq!(ports("xdhcpd", "local-port 2067;"), (2067, 2068));
        assert_eq!(ports("xdhcpd", "local-port 2067; remote-port 99;"), (2067, 99));
        assert_eq!(ports("xdhcpd -p 1067", "local-port 2067; remote-port 99;"), (1067, 1068));
    }

    #[test]
    fn paths_are_absolute_and_the_configuration_overrides_the_command_line() {
        let (plan_, _) = plan("xdhcpd -lf leases -pf pid --control sock", "").unwrap();
        let here = env::current_dir().unwrap();
        assert_eq!((plan_.leases, plan_.pid), (here.join("leases"), Some(here.join("pid"))));
        assert_eq!(plan_.control, here.join("sock"));
        // dhcpd: lease-file-name overrides -lf.
        let text = "lease-file-name \"/l\"; pid-file-name \"/p\";";
        let (plan_, _) = plan("xdhcpd -lf leases -pf pid", text).unwrap();
        assert_eq!((plan_.leases, plan_.pid), ("/l".into(), Some("/p".into())));
        assert_eq!(plan("xdhcpd --no-pid", text).unwrap().0.pid, None);
    }

    #[test]
    fn the_log_facility_is_the_configurations() {
        assert_eq!(plan("xdhcpd", "").unwrap().0.facility, 3);
        assert_eq!(plan("xdhcpd", "log-facility local7;").unwrap().0.facility, 23);
    }
}
