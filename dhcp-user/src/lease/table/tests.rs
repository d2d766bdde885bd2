//! The table against a plain model, and its size.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FREE: BindingState = BindingState::Free;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn secs(secs: u32) -> WallTime {
    WallTime::from_secs(secs.into())
}

fn layout() -> Layout {
    Layout {
        pools: vec![
            PoolLayout { ranges: vec![(ip(10), ip(15)), (ip(2), ip(3))], is_failover: true },
            PoolLayout { ranges: vec![(ip(20), ip(23))], is_failover: false },
        ],
        hash_key: [1, 2],
    }
}

/// Adds the times and a client to a state.
fn lease(last: u8, state: BindingState, ends: u32, client: u8) -> Lease {
    let hw = (client > 0).then(|| HwAddr::ethernet([2, 0, 0, 0, 0, client]));
    let client_id = (client > 2).then(|| [1, 2, 0, 0, 0, 0, client % 4].into());
    Lease { state, ends: secs(ends), hw, client_id, ..Lease::free(ip(last)) }
}

/// The same, as plain as can be.
#[derive(Default)]
struct Model {
    leases: BTreeMap<Ipv4Addr, Lease>,
    holds: BTreeMap<Ipv4Addr, WallTime>,
    timers: BTreeMap<Ipv4Addr, WallTime>,
}

impl Model {
    fn addresses(pool: usize) -> Vec<Ipv4Addr> {
        if pool == 0 { (10..=15).chain(2..=3).map(ip).collect() } else { (20..=23).map(ip).collect() }
    }

    fn get(&self, address: Ipv4Addr) -> Lease {
        self.leases.get(&address).cloned().unwrap_or_else(|| Lease::free(address))
    }

    fn queue(&self, pool: usize, state: BindingState) -> Vec<(u32, Ipv4Addr)> {
        let mut queue: Vec<(u32, usize, Ipv4Addr)> = Self::addresses(pool)
            .into_iter()
            .enumerate()
            .map(|(at, address)| (at, self.get(address)))
            .filter(|(_, lease)| lease.state == state)
            .filter(|(_, lease)| !lease.is_reserved || !matches!(state, FREE | BindingState::Backup))
            .map(|(at, lease)| {
                let held = self.holds.get(&lease.address).copied().unwrap_or_default();
                let held = if matches!(state, FREE | BindingState::Backup | BindingState::Abandoned) {
                    held
                } else {
                    WallTime::NONE
                };
                let at = if state == BindingState::Backup { usize::MAX - at } else { at };
                let time = match self.holds.get(&lease.address) {
                    Some(_) if state == BindingState::Abandoned => u32::MAX,
                    Some(_) | None => lease.ends.max(held).secs(),
                };
                (time, at, lease.address)
            })
            .collect();
        queue.sort_unstable();
        queue.into_iter().map(|(time, _, address)| (time, address)).collect()
    }

    fn clients(&self, is_theirs: impl Fn(&Lease) -> bool) -> Vec<Ipv4Addr> {
        let rank = |lease: &Lease| match lease.state {
            BindingState::Active => (0, lease.ends),
            BindingState::Expired | BindingState::Released | BindingState::Reset => (1, lease.cltt),
            FREE | BindingState::Backup => (2, lease.ends),
            BindingState::Abandoned => (3, lease.ends),
        };
        let order = [Self::addresses(0), Self::addresses(1)].concat();
        let mut found: Vec<&Lease> = order.iter().filter_map(|a| self.leases.get(a)).filter(|l| is_theirs(l)).collect();
        found.sort_by_key(|lease| (rank(lease).0, std::cmp::Reverse(rank(lease).1)));
        found.into_iter().map(|lease| lease.address).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Box<Lease>),
    Times(u8, u32),
    Hold(u8, u32),
    Timer(u8, u32),
    Expire(u32),
}

fn any_address() -> impl Strategy<Value = u8> {
    prop_oneof![2_u8..=3, 10_u8..=15, 20_u8..=23, 1_u8..30]
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(&BindingState::ALL[..]);
    let put = (any_address(), state, 0_u32..6, 0_u8..6, 0_u8..12).prop_map(|(last, state, ends, client, bits)| {
        let cltt = secs(u32::from(bits));
        let blank = Lease::free(ip(last));
        if bits == 0 { blank } else { Lease { is_reserved: bits == 1, cltt, ..lease(last, state, ends, client) } }
    });
    prop_oneof![
        6 => put.prop_map(|lease| Step::Put(Box::new(lease))),
        2 => (any_address(), 0_u32..6).prop_map(|(last, ends)| Step::Times(last, ends)),
        2 => (any_address(), 0_u32..6).prop_map(|(last, until)| Step::Hold(last, until)),
        1 => (any_address(), 0_u32..6).prop_map(|(last, at)| Step::Timer(last, at)),
        2 => (0_u32..6).prop_map(Step::Expire),
    ]
}

proptest! {
    #[test]
    fn the_table_says_what_a_plain_map_says(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut table = Table::new(&layout());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put(lease) => {
                    let address = lease.address;
                    let place = table.put((*lease).clone());
                    match table.pool_of(address) {
                        None => prop_assert_eq!(place, Place::Aside),
                        Some(pool) => {
                            prop_assert_eq!(place, Place::Pool(pool));
                            model.holds.remove(&address);
                            model.timers.remove(&address);
                            if matches!(lease.state, BindingState::Active | BindingState::Abandoned) && lease.ends.is_some() {
                                model.timers.insert(address, lease.ends);
                            }
                        }
                    }
                    model.leases.insert(address, *lease);
                }
                Step::Times(last, ends) => {
                    let Some(lease) = table.get(ip(last)).filter(|lease| lease.state == BindingState::Active) else {
                        continue;
                    };
                    let lease = Lease { ends: secs(ends), tstp: secs(ends), cltt: secs(9), ..lease };
                    table.put_times(&lease);
                    if table.pool_of(ip(last)).is_some() {
                        model.holds.remove(&ip(last));
                        model.timers.remove(&ip(last));
                        if ends > 0 {
                            model.timers.insert(ip(last), secs(ends));
                        }
                    }
                    model.leases.insert(ip(last), lease);
                }
                Step::Hold(last, until) => {
                    table.hold(ip(last), secs(until));
                    if until > 0 && table.pool_of(ip(last)).is_some() {
                        model.holds.insert(ip(last), secs(until));
                    } else {
                        model.holds.remove(&ip(last));
                    }
                }
                Step::Timer(last, at) => {
                    table.set_timer(ip(last), secs(at));
                    model.timers.remove(&ip(last));
                    if at > 0 && table.pool_of(ip(last)).is_some() {
                        model.timers.insert(ip(last), secs(at));
                    }
                }
                Step::Expire(now) => {
                    let mut due = table.due(secs(now), usize::MAX);
                    due.sort();
                    let mut rang = Vec::new();
                    while let Some(address) = table.poll_expired(secs(now)) {
                        rang.push(address);
                    }
                    rang.sort();
                    let expected: Vec<_> =
                        model.timers.iter().filter(|(_, at)| **at <= secs(now)).map(|(address, _)| *address).collect();
                    prop_assert_eq!(&rang, &expected);
                    prop_assert_eq!(&due, &expected);
                    model.timers.retain(|_, at| *at > secs(now));
                }
            }
            check(&table, &model)?;
        }
    }
}

/// What rests in the table says the same to whoever looks at it there.
fn check_resting(table: &Table, model: &Model) -> Result<(), TestCaseError> {
    for address in [Model::addresses(0), Model::addresses(1)].concat() {
        let lease = model.get(address);
        let Some(resting) = table.look(address) else {
            prop_assert_eq!(lease, Lease::free(address));
            continue;
        };
        let is_only = |found: Vec<Ipv4Addr>| found.iter().all(|one| *one == address);
        let is_alone = lease.hw.is_some_and(|hw| is_only(table.by_hw(&hw)))
            && lease.client_id.as_deref().is_none_or(|id| is_only(table.by_client_id(id)));
        prop_assert_eq!(resting.is_alone(), is_alone, "{:?}", lease);
        prop_assert_eq!((resting.hw(), resting.client_id()), (lease.hw, lease.client_id.as_deref()));
        prop_assert_eq!((resting.state(), resting.ends(), resting.tstp()), (lease.state, lease.ends, lease.tstp));
    }
    Ok(())
}

fn check(table: &Table, model: &Model) -> Result<(), TestCaseError> {
    check_resting(table, model)?;
    prop_assert_eq!(table.next_expiry(), model.timers.values().min().copied());
    for last in 0..32 {
        let address = ip(last);
        let expected = model.leases.get(&address).cloned();
        let expected = if table.pool_of(address).is_some() { Some(model.get(address)) } else { expected };
        prop_assert_eq!(table.get(address), expected);
        prop_assert_eq!(table.held_until(address), model.holds.get(&address).copied());
    }
    for pool in 0..2 {
        let counts = table.counts(PoolIndex(pool));
        let mut reserved = Model::addresses(pool).len() as u32;
        for state in BindingState::ALL {
            let queue = model.queue(pool, state);
            prop_assert_eq!(counts.of(state), queue.len() as u32, "{:?}", state);
            reserved -= queue.len() as u32;
            let addresses: Vec<_> = queue.iter().map(|(_, address)| *address).collect();
            prop_assert_eq!(table.queue(PoolIndex(pool), state), addresses);
        }
        prop_assert_eq!(counts.reserved, reserved);
        for state in [FREE, BindingState::Backup, BindingState::Abandoned] {
            for now in 0..6 {
                let head =
                    model.queue(pool, state).first().filter(|(time, _)| *time <= now).map(|(_, address)| *address);
                prop_assert_eq!(table.first_available(PoolIndex(pool), state, secs(now)), head);
            }
        }
    }
    for client in 1..6 {
        let hw = HwAddr::ethernet([2, 0, 0, 0, 0, client]);
        prop_assert_eq!(table.by_hw(&hw), model.clients(|lease| lease.hw == Some(hw)));
        let id = [1, 2, 0, 0, 0, 0, client % 4];
        prop_assert_eq!(table.by_client_id(&id), model.clients(|lease| lease.client_id.as_deref() == Some(&id)));
    }
    let (said, aside): (Vec<Lease>, Vec<Lease>) =
        model.leases.values().cloned().partition(|lease| table.pool_of(lease.address).is_some());
    let said: Vec<Lease> = said.into_iter().filter(|lease| *lease != Lease::free(lease.address)).collect();
    prop_assert_eq!(table.iter().collect::<Vec<_>>(), [said.clone(), aside].concat());
    let mut slices = Vec::new();
    let mut from = Some(ip(0));
    while let Some(at) = from {
        let (slice, next) = table.slice(at, 2);
        slices.extend(slice);
        from = next;
    }
    prop_assert_eq!(slices, said);
    Ok(())
}

#[test]
fn an_empty_pool_is_given_out_in_ascending_order_from_its_first_range() {
    let mut table = Table::new(&layout());
    let mut given = Vec::new();
    while let Some(address) = table.first_available(PoolIndex(0), FREE, secs(100)) {
        table.put(lease(address.octets()[3], BindingState::Active, 500, 1));
        given.push(address.octets()[3]);
    }
    assert_eq!(given, [10, 11, 12, 13, 14, 15, 2, 3]);
}

#[test]
fn a_held_address_is_not_offered_again_until_the_offer_ends() {
    let mut table = Table::new(&layout());
    for last in 20..=23 {
        assert_eq!(table.first_available(PoolIndex(1), FREE, secs(100)), Some(ip(last)));
        table.hold(ip(last), secs(220));
    }
    assert_eq!(table.first_available(PoolIndex(1), FREE, secs(219)), None, "no free leases");
    assert_eq!(table.first_available(PoolIndex(1), FREE, secs(220)), Some(ip(20)));
    table.hold(ip(22), WallTime::NONE);
    assert_eq!(table.first_available(PoolIndex(1), FREE, secs(100)), Some(ip(22)));
}

#[test]
fn never_used_goes_before_used_and_abandoned_comes_last() {
    let mut table = Table::new(&layout());
    let both = [(PoolIndex(0), FREE), (PoolIndex(0), BindingState::Abandoned), (PoolIndex(1), FREE)];
    for last in [10, 11, 12, 13, 14, 15, 2] {
        table.put(lease(last, FREE, 50, 1));
    }
    table.put(lease(3, BindingState::Abandoned, 10, 0));
    assert_eq!(table.choose(&both, secs(100)), Some(ip(20)), "never used, though in the later pool");
    for last in 20..=23 {
        table.put(lease(last, FREE, 40, 2));
    }
    assert_eq!(table.choose(&both, secs(100)), Some(ip(20)), "the oldest end");
    for last in [10, 11, 12, 13, 14, 15, 2, 20, 21, 22, 23] {
        table.put(lease(last, BindingState::Active, 500, 1));
    }
    assert_eq!(table.choose(&both, secs(100)), Some(ip(3)));
    table.put(lease(10, FREE, 500, 1));
    assert_eq!(table.choose(&both, secs(100)), None, "dhcpd: abandoned leases only when the free list is empty");
}

#[test]
fn the_secondary_walks_its_half_downwards() {
    let mut table = Table::new(&layout());
    for last in [13, 14, 15] {
        table.put(lease(last, BindingState::Backup, 0, 0));
    }
    assert_eq!(table.first_available(PoolIndex(0), BindingState::Backup, secs(1)), Some(ip(15)));
    assert_eq!(table.first_available(PoolIndex(0), FREE, secs(1)), Some(ip(10)));
}

#[test]
fn a_client_with_a_thousand_identifiers_costs_no_more_than_sixty_four() {
    let first = Ipv4Addr::new(10, 1, 0, 0);
    let ranges = vec![(first, Ipv4Addr::new(10, 1, 3, 255))];
    let mut table = Table::new(&Layout { pools: vec![PoolLayout { ranges, is_failover: false }], hash_key: [0; 2] });
    let hw = HwAddr::ethernet([2, 0, 0, 0, 0, 1]);
    for offset in 0..1000_u32 {
        let address = Ipv4Addr::from(u32::from(first) + offset);
        let client_id = Some(offset.to_be_bytes().into());
        table.put(Lease {
            hw: Some(hw),
            client_id,
            state: BindingState::Active,
            ends: secs(offset + 1),
            ..Lease::free(address)
        });
    }
    let found = table.by_hw(&hw);
    assert_eq!(found.len(), 64);
    assert_eq!(found[0], Ipv4Addr::new(10, 1, 3, 231), "the longest lease first");
    assert_eq!(table.by_client_id(&500_u32.to_be_bytes()), [Ipv4Addr::new(10, 1, 1, 244)]);
}

#[test]
fn a_plain_lease_costs_less_than_two_hundred_bytes_with_a_million_of_them() {
    const COUNT: u32 = 1_000_000;
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let ranges = vec![(Ipv4Addr::from(first), Ipv4Addr::from(first + COUNT - 1))];
    let mut table = Table::new(&Layout { pools: vec![PoolLayout { ranges, is_failover: false }], hash_key: [3, 4] });
    let empty = table.heap_len();
    assert!(empty < 200_000, "{empty} bytes before anything is leased");
    for offset in 0..COUNT {
        let [a, b, c, d] = offset.to_be_bytes();
        let id = [0xff, a, b, c, d, 0, 1, 0, 1, 0x2a, 2, 0, a, b, c, d];
        table.put(Lease {
            starts: secs(1_800_000_000),
            ends: secs(1_800_000_600 + offset % 600),
            tstp: secs(1_800_000_900),
            cltt: secs(1_800_000_000),
            state: BindingState::Active,
            hw: Some(HwAddr::ethernet([2, 0, a, b, c, d])),
            client_id: Some(id.into()),
            hostname: Some(format!("client-{offset}").into_bytes().into()),
            ..Lease::free(Ipv4Addr::from(first + offset))
        });
    }
    let per_lease = table.heap_len() / COUNT as usize;
    assert!((100..=200).contains(&per_lease), "{per_lease} bytes per lease");
    assert_eq!(table.counts(PoolIndex(0)).of(BindingState::Active), COUNT);
}

/// The usual identifier is found through the hardware address; the way in and out of that must leave nothing behind.
#[test]
fn an_identifier_that_becomes_usual_and_stops_being_so_is_found_once() {
    let mut table = Table::new(&layout());
    let id = [1, 2, 0, 0, 0, 0, 9];
    for hw in [5, 9, 9, 5, 9, 6] {
        let hw = HwAddr::ethernet([2, 0, 0, 0, 0, hw]);
        for last in [10, 11] {
            table.put(Lease { hw: Some(hw), client_id: Some(id.into()), ..lease(last, BindingState::Active, 50, 0) });
        }
        assert_eq!(table.by_client_id(&id), [ip(10), ip(11)]);
        assert_eq!(table.by_hw(&hw), [ip(10), ip(11)]);
    }
    for last in [10, 11] {
        table.put(Lease::free(ip(last)));
    }
    assert_eq!(table.by_client_id(&id), Vec::<Ipv4Addr>::new());
    assert_eq!(table.by_hw(&HwAddr::ethernet([2, 0, 0, 0, 0, 9])), Vec::<Ipv4Addr>::new());
}

#[test]
fn a_loaded_lease_rings_at_its_promise_until_more_is_known() {
    let mut table = Table::new(&layout());
    let lease = Lease { tstp: secs(900), ..lease(10, BindingState::Active, 600, 1) };
    table.load(Packed::new(&lease), true);
    assert_eq!(table.limit(ip(10)), Some(secs(900)));
    assert_eq!(table.limits(), [(ip(10), secs(900))]);
    assert_eq!(table.next_expiry(), Some(secs(900)));
    // A partner bounds it.
    table.set_limit(ip(10), secs(700));
    assert_eq!(table.next_expiry(), Some(secs(700)));
    table.set_limit(ip(10), secs(500));
    assert_eq!(table.next_expiry(), Some(secs(600)), "never before the end");
    // A put does not make it known; a later record of the file overtakes it.
    table.put(Lease { ends: secs(400), ..lease.clone() });
    assert_eq!(table.next_expiry(), Some(secs(500)));
    table.load(Packed::new(&Lease { state: BindingState::Free, ..lease.clone() }), true);
    assert_eq!((table.limit(ip(10)), table.next_expiry()), (None, None));
    table.load(Packed::new(&lease), true);
    table.set_limit(ip(10), WallTime::NONE);
    assert_eq!(table.next_expiry(), Some(secs(600)));
}
