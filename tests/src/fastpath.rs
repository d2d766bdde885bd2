//! What the suites of the fast path share: tables as plain vectors, and a lease with its question and answer.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::Ipv4Addr,
};

use bytemuck::Zeroable as _;
use dhcp_ebpf::{
    abi::{
        ABI_VERSION, BUCKET_BYTES, BootSecs, Bucket, ClientBucket, ClientPlace, Control, Counter, DigestKey, Entry,
        Event, Generation, PEER_COUNT, Renewal, SOURCE_COUNT, Shield, ShieldMode, Source, TAIL_LEN_MAX, Template,
    },
    decide::Tables,
    question::{self, Question},
    wire::checksum,
};

use crate::dice::Dice;
use crate::frames::{Envelope, Message};

/// Client, server and address of the fixtures.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x77, 0x03];
/// The server's hardware address.
pub const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The leased address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 50);
/// The server identifier.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);

/// The maps as vectors, the clock as a number: what [`Tables`] means, without a kernel.
#[derive(Debug)]
pub struct Model {
    /// The control value.
    pub control: Control,
    /// The /24 that has entries; its first entry is number 0.
    pub prefix: u32,
    /// Its bucket.
    pub bucket: Bucket,
    /// The only client bucket.
    pub clients: ClientBucket,
    /// 256 entries.
    pub entries: RefCell<Vec<Entry>>,
    /// Templates by number.
    pub templates: Vec<Template>,
    /// The shield's token buckets that are not at rest.
    pub sources: RefCell<BTreeMap<u32, Source>>,
    /// What the next random number is.
    pub random: Cell<u32>,
    /// Seconds since boot.
    pub now: Cell<u32>,
    /// Arrival interface.
    pub interface: u32,
    /// Counts.
    pub counters: RefCell<[u64; Counter::COUNT]>,
    /// Events sent.
    pub events: RefCell<Vec<Event>>,
    /// Room of the event ring.
    pub events_max: usize,
}

impl Model {
    /// Tables with nothing armed, in generation 1, switched on, at `now` seconds since boot.
    #[must_use]
    pub fn new(now: u32, key: DigestKey) -> Self {
        let prefix = u32::from(ADDRESS) >> 8;
        let mut serving = [0; PEER_COUNT];
        serving[0] = 1;
        let mut bucket = Bucket::default();
        bucket.prefix[0] = prefix;
        Self {
            control: Control {
                abi_version: ABI_VERSION,
                generation: Generation::new(1),
                enabled: 1,
                dead_man: BootSecs::new(u32::MAX),
                client_mask: 0,
                shield: Shield {
                    mode: ShieldMode::Monitor as u32,
                    discover_rate: 10,
                    discover_burst: 100,
                    ..Shield::default()
                },
                serving,
                buckets: [[u8::MAX; BUCKET_BYTES]; PEER_COUNT],
                shadow: 0,
                _pad: 0,
                answers: 0,
                key,
            },
            prefix,
            bucket,
            clients: ClientBucket::default(),
            entries: RefCell::new(vec![Entry::default(); 256]),
            templates: vec![Template::zeroed()],
            sources: RefCell::new(BTreeMap::new()),
            random: Cell::new(0),
            now: Cell::new(now),
            interface: 1,
            counters: RefCell::new([0; Counter::COUNT]),
            events: RefCell::new(Vec::new()),
            events_max: usize::MAX,
        }
    }

    /// Arms the entry of an address as the agent does.
    pub fn arm(&mut self, entry: Entry) {
        let index = usize::from(entry.address[3]);
        let tag = ClientPlace::new(entry.chaddr, &self.control.key, 0).tag;
        self.clients.ways[0] = ClientBucket::way(tag, index as u32);
        self.entries.borrow_mut()[index] = entry;
    }
}

impl Tables for Model {
    fn control(&self) -> Option<&Control> {
        Some(&self.control)
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        (index == Bucket::index_of(self.prefix)).then_some(&self.bucket).or(Some(&EMPTY))
    }

    fn client_bucket(&self, index: u32) -> Option<ClientBucket> {
        (index == 0).then_some(self.clients)
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        let entry = *self.entries.borrow().get(index as usize)?;
        (entry.sequence & 1 == 0).then_some(entry)
    }

    fn store_renewal(&self, index: u32, renewal: Renewal) {
        self.entries.borrow_mut()[index as usize].renewal = renewal;
    }

    fn template(&self, number: u16) -> Option<&Template> {
        self.templates.get(usize::from(number))
    }

    fn send_event(&self, event: Event, _is_late: bool) -> bool {
        let mut events = self.events.borrow_mut();
        if events.len() >= self.events_max {
            return false;
        }
        events.push(event);
        true
    }

    fn count(&self, counter: Counter) {
        self.counters.borrow_mut()[counter as usize] += 1;
    }

    fn now(&self) -> BootSecs {
        BootSecs::new(self.now.get())
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn random(&self) -> u32 {
        self.random.get()
    }

    fn source(&self, index: u32) -> Option<Source> {
        (index < SOURCE_COUNT).then(|| self.sources.borrow().get(&index).copied().unwrap_or_default())
    }

    fn store_source(&self, index: u32, source: Source) {
        self.sources.borrow_mut().insert(index, source);
    }
}

static EMPTY: Bucket = Bucket { prefix: [0; 4], base: [0; 4] };

/// A digest key that a test can repeat.
#[must_use]
pub fn key(seed: u64) -> DigestKey {
    let mut dice = Dice::new(seed);
    DigestKey::draw(|| dice.word())
}

/// A template from options after the time options (code, data), for a lease of `lease_time` seconds.
#[must_use]
pub fn template(lease_time: u32, renewal_time: u32, rebinding_time: u32, options: &[(u8, &[u8])]) -> Template {
    let mut template = Template::zeroed();
    template.server = SERVER.octets();
    template.source_mac = SERVER_MAC;
    template.lease_time = lease_time;
    template.renewal_time = renewal_time;
    template.rebinding_time = rebinding_time;
    let mut bytes = vec![0; 192];
    bytes.extend([99, 130, 83, 99, 53, 1, 5, 54, 4]);
    bytes.extend(SERVER.octets());
    bytes.extend([51, 4, 0, 0, 0, 0]);
    if renewal_time != 0 {
        bytes.extend([58, 4, 0, 0, 0, 0]);
    }
    if rebinding_time != 0 {
        bytes.extend([59, 4, 0, 0, 0, 0]);
    }
    for (code, data) in options {
        bytes.extend([*code, data.len() as u8]);
        bytes.extend(*data);
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(256), 0);
    assert!(bytes.len() <= TAIL_LEN_MAX, "a fixture's tail is too long");
    template.tail_len = bytes.len() as u32;
    template.tail_sum = checksum::sum(&bytes) as u32;
    template.tail[..bytes.len()].copy_from_slice(&bytes);
    template
}

/// The renewal of a udhcpc-like client: options as that program orders them.
#[must_use]
pub fn renewal(mac: [u8; 6], address: Ipv4Addr, xid: u32) -> Message {
    let mut message = Message::request(3, mac, xid)
        .with(57, [2, 64])
        .with(55, [1, 3, 6, 12, 15, 28, 42])
        .with(12, *b"Portable1")
        .with(60, *b"udhcp 1.35.0")
        .with(61, [&[1][..], &mac].concat());
    message.ciaddr = address;
    message
}

/// The frame of a message that goes from its `ciaddr` to the server.
#[must_use]
pub fn unicast(message: &Message) -> Vec<u8> {
    let mac = *message.chaddr.first_chunk().expect("chaddr holds 16 bytes");
    Envelope::unicast(mac, message.ciaddr, SERVER_MAC, SERVER).wrap(&message.bytes())
}

/// The digest of a renewal, as the agent predicts it from the option bytes.
#[must_use]
pub fn digest(message: &Message, interface: u32, key: &DigestKey) -> u64 {
    digest_behind(message, interface, [0; 2], key)
}

/// The digest of a request that arrives behind VLAN tags (outer first, TPID and TCI).
#[must_use]
pub fn digest_behind(message: &Message, interface: u32, vlan: [u32; 2], key: &DigestKey) -> u64 {
    let bytes = message.bytes();
    let options = &bytes[240..];
    let question = Question {
        chaddr: *message.chaddr.first_chunk().expect("chaddr holds 16 bytes"),
        address: if message.ciaddr.is_unspecified() { ADDRESS.octets() } else { message.ciaddr.octets() },
        has_ciaddr: !message.ciaddr.is_unspecified(),
        giaddr: message.giaddr.octets(),
        interface,
        vlan,
    };
    question::digest(&question, options, 0, options.len(), key).expect("a fixture's options fit")
}
