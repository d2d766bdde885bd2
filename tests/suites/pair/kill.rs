//! Killed at random moments: two of ours with their kernels, a crowd of clients, and SIGKILL. Captures and the leases files
//! are all that the checkers see.
//!
//! - I1, I2: the crowd's ledger, on the wire and against the file of whoever was killed;
//! - I2, I7, I8: every ACK and every message between the servers ([`Witness`]);
//! - I4: a kernel's ACK beside its agent's to the same request, byte for byte;
//! - I5: what is behind an XDP program is bit by bit what was before it, or was answered;
//! - I6: the window of updates on the wire, the processes' memory, what the servers say of their queues;
//! - I3: when the clients are gone every address is free, on exactly one side;
//! - a new client of the dead server's half is served by the other one.
//!
//! `XDHCPD_PAIR_KILLS` says how often, `XDHCPD_SEED` where the moments come from.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcp_user::failover::Buckets;
use tests::client::{Client, Wire as _};
use tests::crowd::{Crowd, Habits};
use tests::dice::Dice;
use tests::duo::{ADDRESSES, Duo, Kind, P, S, Setup};
use tests::judge::check_free;
use tests::lab::{PacketSocket, now};
use tests::need;

use crate::act::kernel;
use crate::witness::Witness;

/// Maximum client lead time, seconds; short, so that leases of both kinds are seen.
const MCLT: u32 = 6;
/// How long a client of the dead server's half may wait for its first lease: the rest is a loaded machine's.
const SERVED_AGAIN: Duration = Duration::from_secs(20);

/// How often the servers are weighed.
const WEIGH_EVERY: Duration = Duration::from_millis(500);

fn setting<T: std::str::FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What plays.
struct Play {
    duo: Duo,
    witness: Witness,
    /// Until the clients go away.
    crowd: Option<Crowd>,
    dice: Dice,
    newcomers: u16,
    weigh_at: Instant,
    /// Milliseconds from a kill to the first lease of a new client of the dead one's half.
    served_again: Vec<u128>,
}

impl Play {
    fn look(&mut self) {
        let weighed = if self.weigh_at <= now() {
            self.weigh_at = now() + WEIGH_EVERY;
            self.witness.weigh(&self.duo)
        } else {
            Ok(())
        };
        if let Err(fault) = self.witness.look().and(weighed) {
            panic!("{fault}");
        }
    }

    /// Lets some time pass.
    fn pass(&mut self, millis: u64) {
        let end = now() + Duration::from_millis(millis);
        while now() < end {
            std::thread::sleep(Duration::from_millis(20));
            self.look();
        }
    }

    fn is_normal(&self) -> bool {
        self.duo.sides.iter().all(|side| side.states() == ("normal".to_owned(), "normal".to_owned()))
    }

    fn wait_normal(&mut self) {
        let end = now() + Duration::from_secs(60);
        while !self.is_normal() {
            assert!(now() < end, "not normal: {:?}", [P, S].map(|side| self.duo.sides[side].states()));
            self.pass(50);
        }
    }

    /// Kills a server; when that was.
    fn kill(&mut self, side: usize) -> Instant {
        let at = now();
        self.duo.sides[side].kill().unwrap();
        let file = self.duo.sides[side].file();
        if let Some(crowd) = &self.crowd {
            crowd.agent_is(ADDRESSES[side], false);
            crowd.check(ADDRESSES[side], &file).unwrap_or_else(|fault| panic!("{fault}"));
        }
        self.look();
        at
    }

    fn start(&mut self, side: usize) {
        if let Some(crowd) = &self.crowd {
            crowd.agent_is(ADDRESSES[side], true);
        }
        self.duo.sides[side].start().unwrap();
        self.look();
    }

    /// A new client of the dead server's half, who has not waited for anybody: it asks until it is served.
    fn newcomer(&mut self, dead: usize, killed: Instant) {
        let is_of_dead = |client: &Client| Buckets::split(128).is_primary(&client.mac) == (dead == P);
        let mut client = loop {
            self.newcomers += 1;
            let [high, low] = self.newcomers.to_be_bytes();
            let client = Client::new([2, 0, 0, 0x44, high, low]);
            if is_of_dead(&client) {
                break client;
            }
        };
        let mut wire = self.duo.wire();
        while !joins(&mut wire, &mut client) {
            self.look();
            let alive = &self.duo.sides[1 - dead];
            assert!(
                killed.elapsed() < SERVED_AGAIN,
                "a new client is not served when {dead} is dead: {:?} {:?}\n{}",
                alive.states(),
                alive.count(),
                alive.words()
            );
        }
        self.served_again.push(killed.elapsed().as_millis());
        assert_eq!(client.lease.as_ref().unwrap().server, ADDRESSES[1 - dead]);
        let release = client.release().unwrap();
        wire.send(&release).unwrap();
    }

    /// I3: the clients are gone, and what they had becomes free on exactly one side.
    fn check_leaks(&mut self, range: [Ipv4Addr; 2], within: Duration) {
        let end = now() + within;
        let addresses: Vec<Ipv4Addr> = (u32::from(range[0])..=u32::from(range[1])).map(Ipv4Addr::from).collect();
        loop {
            self.pass(200);
            let odd = addresses.iter().find_map(|address| {
                let [primary, secondary] = [P, S].map(|side| self.duo.sides[side].state_of(*address));
                check_free(*address, [&primary, &secondary]).err()
            });
            let Some(odd) = odd else { return };
            assert!(now() < end, "{odd}: {:?}", [P, S].map(|side| self.duo.sides[side].states()));
        }
    }
}

/// One try of a DISCOVER and a REQUEST.
fn joins(wire: &mut PacketSocket, client: &mut Client) -> bool {
    let discover = client.discover();
    let Some(offer) = client.ask(wire, &discover, Duration::from_millis(150)).ok() else { return false };
    let request = client.select(&offer).unwrap();
    let Some(ack) = client.ask(wire, &request, Duration::from_millis(900)).ok() else { return false };
    client.bind(&ack).is_ok()
}

#[test]
fn servers_killed_at_random_moments_keep_every_promise() {
    need!("pair::kill::random", kernel());
    let (kills, seed) = (setting("XDHCPD_PAIR_KILLS", 8_u32), setting("XDHCPD_SEED", 1_u64));
    // Enough for what the crowd uses up while the other half of the pool is out of reach.
    let range = [Ipv4Addr::new(192, 168, 150, 50), Ipv4Addr::new(192, 168, 150, 199)];
    let setup = Setup { mclt: MCLT, lease_secs: 16, range, more: "min-balance 1; max-balance 4;", ..Setup::default() };
    let configurations =
        setup.configurations().map(|text| format!("db-time-format local;\nabandon-lease-time 12;\n{text}"));
    let duo = Duo::new([Kind::Ours, Kind::Ours], [&configurations[P], &configurations[S]], "generic").unwrap();
    let duo = need!("pair::kill::random", duo.never_down().map_err(|error| format!("{error:#}")));
    for address in u32::from(range[0])..=u32::from(range[1]) {
        duo.clients.ip(&format!("addr add {}/24 dev c0", Ipv4Addr::from(address))).unwrap();
    }
    let witness = Witness::new(&duo, MCLT, setup.window.into());
    let habits = Habits {
        clients: 16,
        seed,
        declines: 1,
        patience: Duration::from_millis(100),
        pause: Duration::from_millis(6),
        ..Habits::default()
    };
    let crowd = Crowd::start(duo.wire(), habits);
    let mut play = Play {
        duo,
        witness,
        crowd: Some(crowd),
        dice: Dice::new(seed),
        newcomers: 0,
        weigh_at: now(),
        served_again: Vec::new(),
    };
    let begun = now();
    play.start(P);
    play.start(S);
    for kill in 0..kills {
        // Every other kill hits whatever it hits: a start, a recovery, a conflict.
        if kill % 2 == 0 {
            play.wait_normal();
        }
        let moment = play.dice.below(1200);
        play.pass(moment);
        let victim = play.dice.index(2);
        let was_normal = play.is_normal();
        let killed = play.kill(victim);
        let is_both = play.dice.chance(20);
        if is_both {
            let moment = play.dice.below(300);
            play.pass(moment);
            play.kill(1 - victim);
        } else if was_normal {
            play.newcomer(victim, killed);
        }
        let away = play.dice.below(800);
        play.pass(away);
        if is_both {
            let first = play.dice.index(2);
            play.start(first);
            play.start(1 - first);
        } else {
            play.start(victim);
        }
    }
    play.wait_normal();
    let secs = begun.elapsed().as_secs_f32();
    let seen = play.crowd.take().unwrap().finish().unwrap_or_else(|fault| panic!("{fault}"));
    play.check_leaks(range, Duration::from_secs(90));

    play.served_again.sort_unstable();
    let (served, (tally, memory)) = (&play.served_again, play.witness.tally());
    let at = |share: usize| served.get((served.len() * share / 100).min(served.len().saturating_sub(1)));
    println!(
        "seed {seed}: {kills} kills in {secs:.0} s; {seen}; judged: {} ACKs, {} messages between the servers, {} records, \
         {} frames passed up and {} answered, {} ACKs compared, {} weighings ({} KiB more, {} updates at most); {} new clients \
         served again after {:?} ms at the median, {:?} at most",
        tally.acks,
        tally.messages,
        tally.records,
        tally.passed,
        tally.answered,
        tally.compared,
        memory.weighed,
        memory.growth_kib,
        memory.updates,
        served.len(),
        at(50).unwrap_or(&0),
        served.last().unwrap_or(&0),
    );
    assert!(tally.acks > u64::from(kills) * 10 && tally.messages > u64::from(kills) * 10, "{tally:?}");
    assert!(tally.passed > 100 && tally.answered > u64::from(kills) && tally.compared > 0, "{tally:?}");
    assert!(memory.weighed > u64::from(kills), "{memory:?}");
    assert!(seen.acks_without_agent > 0, "{seen}");
    assert!(served.len() as u32 >= kills / 4, "{served:?}");
}
