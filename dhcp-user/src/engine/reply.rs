//! The options of a reply: their order, their room, and the tail they make.
//!
//! ```text
//!   53 54 51 58 59 56 50 92 | 118 61 | what the client lists, in its order | 81, 1 | 82 as received | 255 | 0...
//! ```
//!
//! A tail is everything from `sname` on, what a kernel template carries; the values of 51, 58 and 59 are left
//! zero in it and written by the pen (`dhcp_ebpf::answer`), for both worlds alike.

use dhcp_ebpf::{
    answer::{self, Fixed, Times},
    frame::Buffer,
    wire::{
        dhcp::{COOKIE, MESSAGE_LEN_MIN, TAIL_AT},
        option::code,
    },
};

use super::limits::{FIXED_LEN, MESSAGE_SIZE_RANGE, OPTION_ROOM_DEFAULT};

/// Length of `sname`, in bytes.
const SNAME_LEN: usize = 64;
/// Length of `file`, in bytes.
const FILE_LEN: usize = 128;
/// Where the options start in a tail, behind the cookie.
const OPTIONS_AT: usize = SNAME_LEN + FILE_LEN + COOKIE.len();
/// Room of a tail: the largest datagram that option 57 may ask for, and a whole option 82 behind it.
pub(crate) const TAIL_ROOM: usize = 1808;
/// Shortest tail, in bytes: dhcpd pads a message to 300.
const TAIL_LEN_MIN: usize = MESSAGE_LEN_MIN - TAIL_AT;

/// The codes that come first, whatever the client asks for (dhcpd). Nothing gives option 50 a value but a configuration
/// (RFC 2131 4.3.1 #no-requested-address).
const HEAD: [u8; 8] = [
    code::MESSAGE_TYPE,
    code::SERVER_IDENTIFIER,
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::MESSAGE,
    code::REQUESTED_ADDRESS,
    code::ASSOCIATED_IP,
];

/// The codes that follow the head when the client lists nothing (dhcpd).
const UNASKED: [u8; 5] = [code::SUBNET_MASK, code::ROUTERS, code::DOMAIN_NAME_SERVERS, code::HOST_NAME, code::FQDN];

/// What decides which options are sent, and in which order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The parameter request list: the configuration's if it sets one, else the client's.
    pub(crate) list: Option<&'a [u8]>,
    /// The request carried option 118, which is echoed.
    pub(crate) echo_subnet_selection: bool,
    /// `echo-client-id` (RFC 6842).
    pub(crate) echo_client_id: bool,
    /// The client sent option 81.
    pub(crate) has_fqdn: bool,
    /// OFFER and ACK to a client: the subnet mask is sent whether asked for or not.
    pub(crate) wants_mask: bool,
}

/// RFC 2132 9.8 #order-of-the-list
/// Lists the codes of a reply in the order in which they are sent; `82` and END come behind all of them.
///
/// Codes without a value are in it as well: whoever looks the values up skips them. `configured` are the codes
/// that have a value, ascending; it matters only when the client lists nothing.
pub(crate) fn order(wish: &Wish<'_>, configured: impl Iterator<Item = u8>) -> Order {
    let mut order = Order::default();
    for code in HEAD {
        order.push(code);
    }
    if wish.echo_subnet_selection {
        order.push(code::SUBNET_SELECTION);
    }
    if wish.echo_client_id {
        order.push(code::CLIENT_IDENTIFIER);
    }
    match wish.list {
        Some(list) => {
            for &code in list {
                order.push(code);
            }
            if wish.has_fqdn {
                order.push(code::FQDN);
            }
            if wish.wants_mask {
                order.push(code::SUBNET_MASK);
            }
        }
        None => {
            for code in UNASKED {
                order.push(code);
            }
            for code in configured.filter(|code| *code != code::VENDOR_ENCAPSULATED) {
                order.push(code);
            }
            order.push(code::VENDOR_ENCAPSULATED);
        }
    }
    order.put_mask_before_routers();
    order
}

/// A list of option codes without repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    codes: [u8; 256],
    len: usize,
    seen: [u64; 4],
}

impl Default for Order {
    fn default() -> Self {
        Self { codes: [0; 256], len: 0, seen: [0; 4] }
    }
}

impl Order {
    /// RFC 2131 4.3.1 #once
    /// Adds a code unless it is there already, means nothing (0, 255), or is placed by other rules (52, 82).
    fn push(&mut self, code: u8) {
        if matches!(code, code::PAD | code::END | code::OVERLOAD | code::RELAY_AGENT) {
            return;
        }
        let Some(word) = self.seen.get_mut(usize::from(code >> 6)) else { return };
        let bit = 1_u64 << (code & 63);
        if *word & bit != 0 {
            return;
        }
        *word |= bit;
        if let Some(place) = self.codes.get_mut(self.len) {
            *place = code;
            self.len += 1;
        }
    }

    /// RFC 2132 3.3 #mask-before-routers: the subnet mask comes before the routers; dhcpd lets the two change places.
    fn put_mask_before_routers(&mut self) {
        let codes = self.codes.get_mut(..self.len).unwrap_or_default();
        let mask = codes.iter().position(|&code| code == code::SUBNET_MASK);
        let routers = codes.iter().position(|&code| code == code::ROUTERS);
        if let (Some(mask), Some(routers)) = (mask, routers)
            && routers < mask
        {
            codes.swap(mask, routers);
        }
    }

    /// The codes.
    pub(crate) fn codes(&self) -> &[u8] {
        self.codes.get(..self.len).unwrap_or_default()
    }
}

/// Bytes there are for the cookie and the options of a reply (dhcpd: 12.3 of the reference).
///
/// `client` and `configured` are the values of option 57 of the request and of the configuration.
#[must_use]
pub(crate) fn option_room(client: Option<u16>, configured: Option<u16>) -> usize {
    // dhcpd: the client's word counts, the configuration's is for clients that say nothing.
    match client.or(configured) {
        Some(asked) => {
            let (least, most) = MESSAGE_SIZE_RANGE;
            usize::from(asked.clamp(least, most)) - FIXED_LEN
        }
        None => OPTION_ROOM_DEFAULT,
    }
}

/// Everything of a reply from `sname` on.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    bytes: [u8; TAIL_ROOM],
    len: usize,
    uses_overload: bool,
}

/// What goes into a tail besides options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout<'a> {
    /// `server-name`, at most 64 bytes are used.
    pub(crate) server_name: &'a [u8],
    /// `filename`, at most 128 bytes are used.
    pub(crate) file_name: &'a [u8],
    /// Option 82 as received, sent back verbatim behind everything else (RFC 3046 2.2).
    pub(crate) relay_agent: Option<&'a [u8]>,
    /// Bytes for the cookie and the options; option 82 has its own.
    pub(crate) room: usize,
    /// The last code wished for: behind its option there is no need for room.
    pub(crate) last: Option<u8>,
    /// Whether the message is padded to 300 bytes.
    pub(crate) is_padded: bool,
}

impl Tail {
    /// Lays options out; what does not fit goes to `file` and `sname` when those are free (RFC 2131 4.1), and what
    /// fits nowhere is left out (dhcpd).
    pub(crate) fn lay<'o>(layout: &Layout<'_>, options: impl Iterator<Item = (u8, &'o [u8])>) -> Self {
        let mut tail = Self { bytes: [0; TAIL_ROOM], len: 0, uses_overload: false };
        tail.put(0, layout.server_name.get(..layout.server_name.len().min(SNAME_LEN)).unwrap_or_default());
        tail.put(SNAME_LEN, layout.file_name.get(..layout.file_name.len().min(FILE_LEN)).unwrap_or_default());
        tail.put(SNAME_LEN + FILE_LEN, &COOKIE);

        let room = layout.room.min(TAIL_ROOM - OPTIONS_AT - 257 - 3).saturating_sub(COOKIE.len());
        // END has its byte set aside in each region.
        let region = |at: usize, len: usize, is_free: bool| Region { at, end: if is_free { at + len - 1 } else { at } };
        let mut regions = Regions {
            main: region(OPTIONS_AT, room, true),
            file: region(SNAME_LEN, FILE_LEN, layout.file_name.is_empty()),
            sname: region(0, SNAME_LEN, layout.server_name.is_empty()),
        };
        for (code, data) in options {
            tail.put_option(&mut regions, code, data, layout.last == Some(code));
        }
        tail.close_overloaded(&mut regions);
        let mut at = regions.main.at;
        // RFC 3046 2.2 #echo-whole, RFC 3046 2.2 #echo-last, RFC 3046 2.2 #echo-not-overloaded,
        // RFC 3046 2.2 #echo-or-nothing
        if let Some(agent) = layout.relay_agent
            && let Ok(len) = u8::try_from(agent.len())
        {
            tail.put(at, &[code::RELAY_AGENT, len]);
            tail.put(at + 2, agent);
            at += 2 + agent.len();
        }
        // RFC 2131 4.1 #overload-options-end
        tail.put(at, &[code::END]);
        tail.len = (at + 1).max(if layout.is_padded { TAIL_LEN_MIN } else { 0 });
        tail
    }

    /// RFC 2131 4.1 #overload-is-said, RFC 2131 4.1 #overload-fields
    /// Ends `file` and `sname` when they hold options, and says so (RFC 2132 9.3).
    fn close_overloaded(&mut self, regions: &mut Regions) {
        let mut used = 0;
        for (region, start, bit) in [(&regions.file, SNAME_LEN, 1), (&regions.sname, 0, 2)] {
            if region.at > start {
                self.put(region.at, &[code::END]);
                used |= bit;
            }
        }
        if used != 0 {
            self.put(regions.main.at, &[code::OVERLOAD, 1, used]);
            regions.main.at += OVERLOAD_LEN;
            self.uses_overload = true;
        }
    }

    /// RFC 2131 4.1 #option-in-one-field
    /// Writes one option, in pieces of at most 255 bytes (RFC 3396): whole into the first region that holds it, else
    /// spread over what is left of all of them; what fits nowhere is left out (dhcpd). An empty one is not sent (dhcpd).
    fn put_option(&mut self, regions: &mut Regions, code: u8, data: &[u8], is_last: bool) {
        let before = *regions;
        // Option 52 may have to follow in the main region; nothing follows the last option of all.
        let reserve = if is_last && !regions.is_overloaded() { 0 } else { OVERLOAD_LEN };
        let mut rest = data;
        let mut is_spread = false;
        while !rest.is_empty() {
            let whole = 2 + rest.len();
            let Regions { main, file, sname } = regions;
            let (region, len) = if !is_spread && main.at + whole + reserve <= main.end {
                (main, rest.len())
            } else if !is_spread && file.at + whole < file.end {
                (file, rest.len())
            } else if !is_spread && sname.at + whole < sname.end {
                (sname, rest.len())
            } else {
                is_spread = true;
                if main.at + PIECE_LEN_MIN + OVERLOAD_LEN <= main.end {
                    let len = main.end - OVERLOAD_LEN - main.at - 2;
                    (main, len)
                } else if file.at + PIECE_LEN_MIN <= file.end {
                    let len = file.end - file.at - 2;
                    (file, len)
                } else if sname.at + PIECE_LEN_MIN <= sname.end {
                    let len = sname.end - sname.at - 2;
                    (sname, len)
                } else {
                    *regions = before;
                    return;
                }
            };
            let (piece, after) = rest.split_at(len.min(255).min(rest.len()));
            let at = region.at;
            region.at += 2 + piece.len();
            self.put(at, &[code, piece.len() as u8]);
            self.put(at + 2, piece);
            rest = after;
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The tail, padding included.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether `file` or `sname` carry options.
    pub(crate) const fn uses_overload(&self) -> bool {
        self.uses_overload
    }

    /// Writes the reply to the request whose first 44 bytes are given, with the one pen.
    pub(crate) fn write(&self, request: &[u8; TAIL_AT], fixed: &Fixed, times: &Times) -> Vec<u8> {
        let mut message = Vec::with_capacity(TAIL_AT + self.len);
        message.extend_from_slice(request);
        message.resize(TAIL_AT + self.len, 0);
        let len = message.len();
        let written = answer::write(&mut Buffer::new(&mut message, len), 0, fixed, &self.bytes, self.len, times);
        debug_assert!(written.is_some(), "the buffer was made to fit");
        message
    }
}

/// A part of the tail that takes options: the next free byte, and the first that is not its own.
#[derive(Debug, Clone, Copy)]
struct Region {
    at: usize,
    end: usize,
}

/// The parts of the tail that take options, in the order in which they are filled.
#[derive(Debug, Clone, Copy)]
struct Regions {
    main: Region,
    file: Region,
    sname: Region,
}

impl Regions {
    /// Whether an option stands in `file` or `sname`.
    const fn is_overloaded(&self) -> bool {
        self.file.at > SNAME_LEN || self.sname.at > 0
    }
}

/// Length of option 52, in bytes.
const OVERLOAD_LEN: usize = 3;
/// Shortest piece of an option that is worth its code and length, in bytes.
const PIECE_LEN_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Wish<'_> =
        Wish { list: None, echo_subnet_selection: false, echo_client_id: false, has_fqdn: false, wants_mask: true };

    fn lay(layout: &Layout<'_>, options: &[(u8, Vec<u8>)]) -> Tail {
        Tail::lay(layout, options.iter().map(|(code, data)| (*code, &data[..])))
    }

    fn layout<'a>() -> Layout<'a> {
        Layout {
            server_name: b"",
            file_name: b"",
            relay_agent: None,
            room: OPTION_ROOM_DEFAULT,
            last: None,
            is_padded: true,
        }
    }

    fn tail_of(order: &Order) -> &[u8] {
        &order.codes()[HEAD.len()..]
    }

    #[test]
    // RFC 2132 9.8 #order-of-the-list, RFC 2131 4.3.1 #once
    fn the_client_s_order_is_kept_without_repetitions() {
        let list = [1, 3, 6, 15, 28, 51, 58, 59, 6, 0, 255, 82, 52];
        let order = order(&Wish { list: Some(&list), ..PLAIN }, [].into_iter());
        assert_eq!(order.codes()[..8], HEAD);
        assert_eq!(tail_of(&order), [1, 3, 6, 15, 28]);
    }

    #[test]
    // RFC 2132 3.3 #mask-before-routers
    fn the_mask_comes_last_when_not_listed_and_before_the_routers_when_they_are() {
        assert_eq!(tail_of(&order(&Wish { list: Some(&[15]), ..PLAIN }, [].into_iter())), [15, 1]);
        assert_eq!(tail_of(&order(&Wish { list: Some(&[3, 15]), ..PLAIN }, [].into_iter())), [1, 15, 3]);
        assert_eq!(tail_of(&order(&Wish { list: Some(&[3, 15, 1]), ..PLAIN }, [].into_iter())), [1, 15, 3]);
        let unmasked = Wish { list: Some(&[3, 15]), wants_mask: false, ..PLAIN };
        assert_eq!(tail_of(&order(&unmasked, [].into_iter())), [3, 15]);
    }

    #[test]
    fn without_a_list_everything_configured_is_sent_in_a_fixed_order() {
        let order = order(&PLAIN, [3, 6, 15, 28, 43, 44].into_iter());
        assert_eq!(tail_of(&order), [1, 3, 6, 12, 81, 15, 28, 44, 43]);
    }

    #[test]
    fn echoes_stand_between_the_head_and_the_list() {
        let wish = Wish {
            list: Some(&[118, 61, 6]),
            echo_subnet_selection: true,
            echo_client_id: true,
            has_fqdn: true,
            ..PLAIN
        };
        assert_eq!(tail_of(&order(&wish, [].into_iter())), [118, 61, 6, 81, 1]);
    }

    #[test]
    fn a_tail_is_padded_to_300_bytes_of_message() {
        let tail = lay(&layout(), &[(53, vec![5])]);
        assert_eq!(tail.bytes().len(), 256);
        assert_eq!(tail.bytes()[192..200], [99, 130, 83, 99, 53, 1, 5, 255]);
        assert!(tail.bytes()[200..].iter().all(|byte| *byte == 0));
        assert!(!tail.uses_overload());
    }

    #[test]
    // RFC 3046 2.2 #echo-whole, RFC 3046 2.2 #echo-last
    fn option_82_is_verbatim_last_and_outside_the_room() {
        let agent = [1, 4, b'p', b'1', b'/', b'3', 9, 3, 1, 2, 3];
        let filling = vec![7_u8; 303 - 2 - 3];
        let options = [(53, vec![5]), (224, filling[..253].to_vec()), (225, filling[253..295].to_vec())];
        let tail = lay(&Layout { relay_agent: Some(&agent), ..layout() }, &options);
        assert!(!tail.uses_overload());
        let end = tail.bytes().len() - 1;
        assert_eq!(tail.bytes()[end], 255);
        assert_eq!(tail.bytes()[end - agent.len()..end], agent);
        assert_eq!(tail.bytes()[end - agent.len() - 2..end - agent.len()], [82, 11]);
    }

    #[test]
    fn what_does_not_fit_goes_to_file_and_then_to_sname() {
        let options = [
            (53, vec![5]),
            (200, vec![1; 250]),
            (201, vec![2; 100]),
            (202, vec![3; 50]),
            (203, vec![4; 40]),
            (204, vec![5; 9]),
        ];
        let tail = lay(&layout(), &options);
        assert!(tail.uses_overload());
        let sname = &tail.bytes()[..64];
        let file = &tail.bytes()[64..192];
        assert_eq!(file[..2], [201, 100]);
        assert_eq!(sname[..2], [202, 50]);
        assert_eq!(sname[52], 255);
        let codes: Vec<u8> =
            dhcp_ebpf::wire::option::Options::new(&tail.bytes()[196..]).map(|option| option.unwrap().0).collect();
        assert_eq!(codes, [53, 200, 203, 52]);
        assert_eq!(file[102], 204);
        assert_eq!(file[113], 255);
    }

    #[test]
    fn a_file_name_is_never_overloaded_and_what_has_no_room_is_left_out() {
        let options = [(53, vec![5]), (200, vec![1; 250]), (201, vec![2; 100]), (202, vec![3; 5])];
        let tail = lay(&Layout { file_name: b"boot", server_name: b"me", ..layout() }, &options);
        assert!(!tail.uses_overload());
        assert_eq!(tail.bytes()[64..69], *b"boot\0");
        let codes: Vec<u8> =
            dhcp_ebpf::wire::option::Options::new(&tail.bytes()[196..]).map(|option| option.unwrap().0).collect();
        assert_eq!(codes, [53, 200, 202]);
    }

    #[test]
    // RFC 2131 4.1 #option-in-one-field
    fn an_option_longer_than_255_bytes_is_sent_in_pieces() {
        let tail = lay(&Layout { room: 1236, ..layout() }, &[(53, vec![5]), (121, vec![9; 600])]);
        let pieces: Vec<(u8, usize)> = dhcp_ebpf::wire::option::Options::new(&tail.bytes()[196..])
            .map(|option| option.unwrap())
            .map(|(code, data)| (code, data.len()))
            .collect();
        assert_eq!(pieces, [(53, 1), (121, 255), (121, 255), (121, 90)]);
    }

    #[test]
    fn the_room_follows_option_57_within_its_bounds() {
        assert_eq!(option_room(None, None), 312);
        assert_eq!(option_room(Some(200), None), 312);
        assert_eq!(option_room(Some(1500), None), 1236);
        assert_eq!(option_room(Some(9000), None), 1236);
        assert_eq!(option_room(Some(1400), Some(600)), 1136);
        assert_eq!(option_room(None, Some(600)), 336);
    }

    #[test]
    fn no_room_is_ever_exceeded() {
        for room in (312..1240).step_by(7) {
            for len in (0..900).step_by(13) {
                let options = [(53, vec![5]), (54, vec![1; 4]), (200, vec![1; len]), (201, vec![1; len / 2])];
                let agent = [0; 255];
                let tail = lay(&Layout { room, relay_agent: Some(&agent), ..layout() }, &options);
                assert!(tail.bytes().len() <= TAIL_AT.max(192) + room + 257, "room {room} len {len}");
            }
        }
    }
}
