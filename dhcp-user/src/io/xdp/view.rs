//! The maps as the program sees them, looked at by the agent: what the kernel would say to a frame, without saying it.

use std::sync::atomic::Ordering;

use dhcp_ebpf::{
    abi::{BootSecs, Bucket, CLIENT_WAYS, ClientBucket, Control, Counter, Entry, Event, Renewal, Source, Template},
    decide::{self, Tables, Verdict},
    frame::Buffer,
};

use super::shared::Shared;

/// Room for the longest reply that the program writes.
const ROOM: usize = 2048;

struct View<'a> {
    shared: &'a Shared,
    control: Control,
    interface: u32,
    now: BootSecs,
}

/// What the program would do with a frame now, and the frame as it would leave it. Nothing is stored, counted or told.
pub(super) fn would_say(shared: &Shared, frame: &[u8], interface: u32, now: BootSecs) -> (Verdict, Vec<u8>) {
    let mut control = shared.control();
    // The question is what the fast path says, not whether this frame would have been taken for a check or a flood.
    control.shadow = 0;
    control.shield.mode = 0;
    let mut room = [0; ROOM];
    let len = frame.len().min(ROOM);
    if let (Some(to), Some(from)) = (room.get_mut(..len), frame.get(..len)) {
        to.copy_from_slice(from);
    }
    let mut buffer = Buffer::new(&mut room, len);
    let verdict = decide::answer_in_place(&mut buffer, &View { shared, control, interface, now });
    (verdict, buffer.bytes().to_vec())
}

impl Tables for View<'_> {
    fn control(&self) -> Option<&Control> {
        Some(&self.control)
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.shared.bucket(index as usize)
    }

    fn client_bucket(&self, index: u32) -> Option<ClientBucket> {
        let mut bucket = ClientBucket::default();
        for (way, word) in bucket.ways.iter_mut().enumerate().take(CLIENT_WAYS) {
            *word = self.shared.client_way(index, way)?.load(Ordering::Acquire);
        }
        Some(bucket)
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        self.shared.entry(index as usize).filter(|entry| entry.sequence & 1 == 0)
    }

    fn store_renewal(&self, _index: u32, _renewal: Renewal) {}

    fn template(&self, number: u16) -> Option<&Template> {
        self.shared.template_at(usize::from(number))
    }

    fn send_event(&self, _event: Event, _is_late: bool) -> bool {
        true
    }

    fn count(&self, _counter: Counter) {}

    fn now(&self) -> BootSecs {
        self.now
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn random(&self) -> u32 {
        u32::MAX
    }

    fn source(&self, _index: u32) -> Option<Source> {
        None
    }

    fn store_source(&self, _index: u32, _source: Source) {}
}
