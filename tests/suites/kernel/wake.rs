//! When an event wakes the agent.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::abi::{Counter, EVENT_RING_LEN};
use dhcp_user::io::fastpath::FastPath as _;
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, renewal, unicast},
    need,
};

use crate::stage::{Stage, XDP_TX, plain};

/// Who sleeps until a ring wakes him, as the agent does: edge-triggered.
struct Sleeper(OwnedFd);

impl Sleeper {
    #[expect(unsafe_code, reason = "std has no epoll")]
    fn on(ring: RawFd) -> io::Result<Self> {
        // SAFETY: the descriptor that epoll_create1 returns is nobody else's; the event lives until epoll_ctl returns.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let epoll = OwnedFd::from_raw_fd(fd);
            let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
            if libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, ring, &raw mut event) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(epoll))
        }
    }

    /// Whether something wakes him within so many milliseconds.
    #[expect(unsafe_code, reason = "std has no epoll")]
    fn is_woken(&self, wait_ms: i32) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event, which lives until the call returns.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, wait_ms) == 1 }
    }
}

#[test]
fn an_event_wakes_nobody_until_a_horizon_is_late() {
    let mut stage = need!("kernel::wake", Stage::new());
    let sleeper = Sleeper::on(stage.kernel.event_fd().unwrap()).unwrap();
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let frame = unicast(&message);
    // A whole lease of 600 s, as at T1; and so little that an earlier event must have been lost.
    for (left, is_woken) in [(600, false), (400, true)] {
        stage.arm(&message, &plain(), left);
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        assert_eq!(stage.kernel.program().unwrap().test_run(options).unwrap().return_value, XDP_TX);
        assert_eq!(sleeper.is_woken(if is_woken { 5_000 } else { 200 }), is_woken, "{left} s are left");
        assert_eq!(stage.kernel.events().len(), 1, "{left} s are left");
    }
}

#[test]
fn a_ring_that_is_half_full_wakes_and_again_as_it_fills_further() {
    let mut stage = need!("kernel::ring-wake", Stage::new());
    let sleeper = Sleeper::on(stage.kernel.event_fd().unwrap()).unwrap();
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let frame = unicast(&message);
    // Near, and not late for as long as the test takes.
    stage.arm(&message, &plain(), 740);
    let mut out = vec![0; 2048];
    let mut renew = |stage: &mut Stage, times: u32| {
        for _ in 0..times {
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.data_out = Some(&mut out);
            assert_eq!(stage.kernel.program().unwrap().test_run(options).unwrap().return_value, XDP_TX);
        }
    };
    // An event takes 24 bytes: half of the ring are 5,461 and a third, a sixteenth are 682 and two thirds.
    const HALF: u32 = EVENT_RING_LEN / 2 / 24;
    const STEP: u32 = EVENT_RING_LEN / 16 / 24;
    renew(&mut stage, HALF - 10);
    assert!(!sleeper.is_woken(200), "the ring is not half full");
    renew(&mut stage, 20);
    assert!(sleeper.is_woken(5_000), "the ring is half full");
    renew(&mut stage, STEP - 40);
    assert!(!sleeper.is_woken(200), "nobody is woken for every event");
    renew(&mut stage, 40);
    assert!(sleeper.is_woken(5_000), "a sixteenth more");
    // Read off, it is quiet again.
    for _ in 0..2 {
        stage.kernel.events();
    }
    renew(&mut stage, HALF / 2);
    assert!(!sleeper.is_woken(200), "a quarter");
    assert_eq!(stage.kernel.counters()[Counter::EventLost as usize], 0);
}
