//! The loaded object and the library's model of it, side by side.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::{
    abi::{ACCESS_PORT_COUNT, BootSecs, Counter, Entry, Generation, Renewal, Shield, ShieldMode, Template},
    clock::CLOCK_AHEAD_NS,
    decide::{self, Verdict},
    frame::Buffer,
};
use dhcp_user::{
    engine::port::{Arm, Interface, InterfaceIndex, Token},
    io::{
        clock,
        fastpath::FastPath as _,
        xdp::{Guard, Kernel, Wanted},
    },
    lease::time::BootTime,
};
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, Model, SERVER_MAC, digest_behind, key, template},
    frames::Message,
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// The interface that BPF_PROG_TEST_RUN says a frame came in through: loopback of the caller's namespace.
pub(crate) const TEST_RUN_INTERFACE: u32 = 1;

/// An address of the range that nobody holds.
pub(crate) const LAST: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 100);

/// The loaded object and the model beside it, with the same lease armed in both.
pub(crate) struct Stage {
    pub(crate) kernel: Kernel,
    pub(crate) model: Model,
    /// Counters of the kernel that have moved.
    pub(crate) reached: BTreeSet<Counter>,
}

impl Stage {
    pub(crate) fn new() -> Result<Self, String> {
        let key = key(0x5eed);
        let mut kernel = Kernel::load(&[(ADDRESS, LAST)], &key, Generation::new(1), Wanted::Generic)
            .map_err(|error| format!("cannot load the XDP program here: {error:#}"))?;
        let now = clock::now();
        kernel.heartbeat(now.boot);
        let mut model = Model::new(now.boot.to_secs().secs(), key);
        model.control.dead_man = BootSecs::new(now.boot.to_secs().secs() + 300);
        Ok(Self { kernel, model, reached: BTreeSet::new() })
    }

    /// Revokes, and waits for the grace period.
    pub(crate) fn revoke(&mut self, addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Renewal)> {
        self.kernel.revoke(Token(1), addresses);
        self.wait_for_grace()
    }

    /// Waits until what was begun with token 1 is complete.
    pub(crate) fn wait_for_grace(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        self.wait_for(Token(1))
    }

    /// Waits until what was begun is complete, and nothing else is before.
    pub(crate) fn wait_for(&mut self, wanted: Token) -> Vec<(Ipv4Addr, Renewal)> {
        for _ in 0..10_000 {
            if let Some((token, words)) = self.kernel.poll_revoked() {
                assert_eq!(token, wanted);
                return words;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no grace period in ten seconds");
    }

    /// Sets what the shield does, in both.
    pub(crate) fn guard(&mut self, mode: ShieldMode, rate: u16, burst: u16, is_access_port: bool) {
        let interface = Interface {
            index: InterfaceIndex(if is_access_port { TEST_RUN_INTERFACE } else { TEST_RUN_INTERFACE + 1 }),
            name: String::from("port"),
            mac: SERVER_MAC,
            addresses: Vec::new(),
            is_up: true,
        };
        let access_ports = vec![interface.name.clone()];
        self.kernel.set_guard(Guard { mode, discover_rate: rate, discover_burst: burst, access_ports });
        self.kernel.guard_ports(std::slice::from_ref(&interface));
        let mut access_ports = [0; ACCESS_PORT_COUNT];
        access_ports[0] = interface.index.0;
        self.model.control.shield =
            Shield { mode: mode as u32, discover_rate: rate, discover_burst: burst, _pad: 0, access_ports };
    }

    /// The second that the program takes for "now": its clock is ahead.
    pub(crate) fn now(&self) -> u32 {
        clock_ahead(CLOCK_AHEAD_NS)
    }

    /// Arms `ADDRESS` for the fixture client with one answer, up to `left` seconds from now.
    pub(crate) fn arm(&mut self, message: &Message, template: &Template, left: u32) {
        self.arm_behind(message, [0; 2], template, left);
    }

    /// As [`Stage::arm`], for a client behind VLAN tags.
    pub(crate) fn arm_behind(&mut self, message: &Message, vlan: [u32; 2], template: &Template, left: u32) {
        self.arm_for((0, 0), message, vlan, template, left);
    }

    /// As [`Stage::arm_behind`], for a lease of a failover peer, in an RFC 3074 bucket.
    pub(crate) fn arm_for(
        &mut self,
        (peer, bucket): (u8, u8),
        message: &Message,
        vlan: [u32; 2],
        template: &Template,
        left: u32,
    ) {
        let digest = digest_behind(message, TEST_RUN_INTERFACE, vlan, &self.model.control.key);
        let horizon = self.now() + left;
        self.kernel.arm(&[Arm {
            address: ADDRESS,
            chaddr: CLIENT_MAC,
            peer,
            bucket,
            horizon: BootTime::from_secs(u64::from(horizon)),
            questions: [Some((digest, Arc::new(*template))), None, None],
        }]);
        self.model.templates.truncate(1);
        self.model.templates.push(*template);
        self.model.arm(Entry {
            generation: self.model.control.generation,
            chaddr: CLIENT_MAC,
            peer,
            bucket,
            digest: [digest, 0, 0],
            template: [1, 0, 0],
            horizon: BootSecs::new(horizon),
            address: ADDRESS.octets(),
            ..Entry::default()
        });
    }

    /// Runs one frame through both, compares everything, and returns the verdict and the frame as it left.
    ///
    /// The clock may tick between the two runs; then they are repeated.
    pub(crate) fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        for _ in 0..5 {
            if let Some(outcome) = self.try_run(frame) {
                return outcome;
            }
        }
        panic!("the clock ticked during five runs in a row");
    }

    /// As [`Stage::run`], `None` when the clock ticked; a token may have been drawn in the kernel alone then.
    pub(crate) fn try_run(&mut self, frame: &[u8]) -> Option<(Verdict, Vec<u8>)> {
        // The program asks the clock once a tick: its second may have begun by one of these (10 ms at most) earlier.
        let before = clock_ahead(CLOCK_AHEAD_NS - 20_000_000);
        if self.now() != before {
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        let entry_before = self.kernel.entry(ADDRESS);
        let counters_before = self.kernel.counters();
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = self.kernel.program().unwrap().test_run(options).unwrap();
        let counters_after = self.kernel.counters();
        let events = self.kernel.events();
        if self.now() != before {
            return None;
        }
        out.truncate(result.data_size_out as usize);

        self.model.now.set(before);
        *self.model.counters.borrow_mut() = [0; Counter::COUNT];
        self.model.events.borrow_mut().clear();
        let mut room = vec![0; 2048];
        room[..frame.len()].copy_from_slice(frame);
        let mut buffer = Buffer::new(&mut room, frame.len());
        let verdict = decide::answer_in_place(&mut buffer, &self.model);
        let expected = buffer.bytes().to_vec();

        let code = match verdict {
            Verdict::Transmit => XDP_TX,
            Verdict::Pass(_) => XDP_PASS,
            Verdict::Drop(_) => XDP_DROP,
        };
        assert_eq!(result.return_value, code, "the program's verdict; the library says {verdict:?}");
        assert_eq!(out, expected, "the program's bytes; the library's verdict is {verdict:?}");
        if let Verdict::Pass(_) | Verdict::Drop(_) = verdict {
            assert_eq!(out, frame, "a frame that is not answered is untouched (I5)");
        }

        let mut counters_expected = *self.model.counters.borrow();
        match verdict {
            Verdict::Transmit => counters_expected[Counter::Answered as usize] += 1,
            Verdict::Pass(reason) | Verdict::Drop(reason) => counters_expected[reason as usize] += 1,
        }
        for counter in Counter::ALL {
            let moved = counters_after[counter as usize] - counters_before[counter as usize];
            assert_eq!(moved, counters_expected[counter as usize], "counter {}", counter.name());
            if moved != 0 {
                self.reached.insert(counter);
            }
        }

        let of_model = self.model.entries.borrow()[usize::from(ADDRESS.octets()[3])].renewal;
        match verdict {
            Verdict::Transmit => {
                assert_eq!(self.kernel.entry(ADDRESS).unwrap().renewal, of_model, "what was granted");
                let is_event_due = !self.model.events.borrow().is_empty();
                if is_event_due && entry_before.is_none_or(|entry| entry.renewal != of_model) {
                    assert_eq!(events, [(ADDRESS, of_model)], "the event");
                }
            }
            Verdict::Pass(_) | Verdict::Drop(_) => {
                assert_eq!(self.kernel.entry(ADDRESS), entry_before, "a passed frame changes no entry");
            }
        }
        Some((verdict, out))
    }
}

/// The second of the boot clock so many nanoseconds from now.
fn clock_ahead(nanos: u64) -> u32 {
    ((clock::boot_time().nanos() + nanos) / 1_000_000_000) as u32
}

/// An answer with the usual options.
pub(crate) fn plain() -> Template {
    template(
        600,
        0,
        0,
        &[(1, &[255, 255, 255, 0]), (3, &[192, 168, 150, 1]), (6, &[172, 16, 0, 10]), (15, b"gsb.local")],
    )
}
