//! One of two is killed while clients renew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::client::{Client, Wire as _};
use tests::duo::{ADDRESSES, Duo, P, S, Setup};
use tests::peers::WAIT;

use crate::stage::{OURS, row, status, wait};

const CLIENTS: u16 = 100;
/// One message every so often, over all clients.
const EVERY: Duration = Duration::from_micros(500);
/// How long before and after the kill.
const HALF: Duration = Duration::from_secs(3);
/// After how long a message counts as not answered.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was asked: when, whether all servers were asked, when it was answered.
struct Asked {
    at: Instant,
    is_rebinding: bool,
    answered: Option<Instant>,
}

/// Clients that renew (with their server) and rebind (with both) in turn; the killed one's kernel goes on answering what
/// is sent to it within its promises, and the survivor's takes over what both hear.
pub(crate) fn kill() {
    for fast_path in ["off", "generic"] {
        let range = [[192, 168, 150, 20].into(), [192, 168, 150, 250].into()];
        let [primary, secondary] = Setup { range, window: 100, ..Setup::default() }.configurations();
        let mut duo = Duo::new(OURS, [&primary, &secondary], fast_path).expect("a stage");
        duo.sides[P].start().expect("the primary");
        duo.sides[S].start().expect("the secondary");
        duo.wait_normal();
        let mut wire = duo.wire();
        let mut clients: Vec<Client> = (0..CLIENTS)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                let mut client = Client::new([2, 0, 0, 0x66, high, low]);
                client.acquire(&mut wire, WAIT).expect("a lease");
                let address = client.lease.as_ref().expect("a lease").address;
                duo.clients.ip(&format!("addr replace {address}/24 dev c0")).expect("an address");
                client
            })
            .collect();
        // The first lease is MCLT; the second one is whole and known to both.
        for client in &mut clients {
            client.renew(&mut wire, WAIT).expect("a renewal");
        }
        wait(Duration::from_secs(20), || {
            [P, S].iter().all(|side| {
                let picture = status(&duo.sides[*side]);
                let is_armed = fast_path == "off" || picture.fast_path.armed == u64::from(CLIENTS);
                is_armed && picture.peers[0].updates_in_flight + picture.peers[0].updates_queued == 0
            })
        });
        let (asked, killed) = storm(&mut duo, &mut clients);
        report(fast_path, &asked, killed);
    }
}

fn storm(duo: &mut Duo, clients: &mut [Client]) -> (Vec<Asked>, Instant) {
    let mut wire = duo.wire();
    let mut asked: Vec<Asked> = Vec::new();
    let mut by_client: BTreeMap<[u8; 6], (usize, Client)> = BTreeMap::new();
    let begin = Instant::now();
    let mut killed = None;
    let mut next = begin;
    let mut turn = 0;
    while begin.elapsed() < HALF * 2 {
        if begin.elapsed() >= HALF && killed.is_none() {
            duo.sides[P].kill().expect("it runs");
            killed = Some(Instant::now());
        }
        if next <= Instant::now() {
            next += EVERY;
            let client = &mut clients[turn % CLIENTS as usize];
            let server = client.lease.as_ref().expect("a lease").server;
            // A client of the dead one rebinds, as its timers say; one whose message is under way waits.
            let is_waiting = by_client
                .get(&client.mac)
                .is_some_and(|(number, _)| asked[*number].answered.is_none() && asked[*number].at.elapsed() < PATIENCE);
            let is_rebinding = (turn / CLIENTS as usize) % 2 == 1 || (killed.is_some() && server == ADDRESSES[P]);
            turn += 1;
            if !is_waiting {
                let frame = if is_rebinding { client.rebinding() } else { client.renewal() }.expect("a lease");
                by_client.insert(client.mac, (asked.len(), client.clone()));
                asked.push(Asked { at: Instant::now(), is_rebinding, answered: None });
                wire.send(&frame).expect("a wire");
            }
        }
        let left = next.saturating_duration_since(Instant::now());
        take(&mut wire, left, &by_client, &mut asked);
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        take(&mut wire, Duration::from_millis(20), &by_client, &mut asked);
    }
    (asked, killed.expect("it was killed"))
}

fn take(
    wire: &mut tests::lab::PacketSocket,
    left: Duration,
    by_client: &BTreeMap<[u8; 6], (usize, Client)>,
    asked: &mut [Asked],
) {
    let Some(frame) = wire.receive(left.max(Duration::from_micros(50))).expect("a wire") else { return };
    let Some(reply) = tests::client::Reply::parse(&frame) else { return };
    let Some(mac) = reply.message.chaddr().first_chunk::<6>() else { return };
    if let Some((number, client)) = by_client.get(mac)
        && client.read(&frame).is_some()
    {
        asked[*number].answered.get_or_insert_with(Instant::now);
    }
}

fn report(fast_path: &str, asked: &[Asked], killed: Instant) {
    let lost: Vec<&Asked> = asked.iter().filter(|one| one.answered.is_none()).collect();
    let secs = |at: Instant| {
        at.saturating_duration_since(killed).as_secs_f64() - killed.saturating_duration_since(at).as_secs_f64()
    };
    let (first, last) = (
        lost.iter().map(|one| secs(one.at)).fold(f64::INFINITY, f64::min),
        lost.iter().map(|one| secs(one.at)).fold(f64::NEG_INFINITY, f64::max),
    );
    let when = if lost.is_empty() {
        String::new()
    } else {
        format!(", sent between {:.1} and {:.1} ms after the kill", first * 1e3, last * 1e3)
    };
    let rebinding = lost.iter().filter(|one| one.is_rebinding).count();
    row(
        &format!("renewals lost when one is killed, {fast_path}"),
        &format!("{}", lost.len()),
        &format!("(what is in flight) of {}, {rebinding} of them sent to both{when}", asked.len()),
    );
}
