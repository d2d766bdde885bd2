//! xdhcpd as users run it: a process in a namespace, asked over its control socket.
