//! `leases --follow`: all leases as they are on disk at one moment, then every change once, in order, as it becomes durable.
//!
//! Reads the journal's file on a thread of its own; neither the engine nor the thread that commits waits for it.

use std::{io, sync::Arc, time::Duration};

use crate::{
    control::message::Answer,
    io::{
        clock,
        journal::{Feed, FollowError, Position},
        snapshot,
    },
    lease::journal::Record,
};

/// How often somebody who follows hears something, also when nothing happens: so either side finds out that the other
/// is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Writes reply lines until the reader goes away: a snapshot first unless a position is given, then the changes.
///
/// # Errors
/// When the reader is gone; what cannot be followed is told as a reply.
pub(super) fn tail(feed: &Arc<Feed>, from: Option<u64>, out: &mut dyn io::Write) -> io::Result<()> {
    let position = match from {
        Some(position) => Position(position),
        None => {
            let snapshot = feed.snapshot();
            snapshot.read(&mut |record| write_lease(record, out))?;
            snapshot.position()
        }
    };
    let mut follower = feed.follow(position);
    loop {
        write(&Answer::Position(follower.position().0), out)?;
        follower.wait(HEARTBEAT);
        match follower.poll() {
            Ok(records) => records.into_iter().try_for_each(|record| write_lease(record, out))?,
            Err(error @ (FollowError::Gone | FollowError::Io(_))) => {
                return write(&Answer::Error(format!("{error}: begin again without a position")), out);
            }
        }
    }
}

fn write_lease(record: Record, out: &mut dyn io::Write) -> io::Result<()> {
    match record {
        Record::Lease(lease) => write(&Answer::Lease(Box::new(snapshot::with_kernel(&lease, None, clock::now()))), out),
        Record::PeerState(_) | Record::ServerDuid(_) | Record::Other(_) => Ok(()),
    }
}

fn write(answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(&answer.clone().into_reply())?;
    line.push(b'\n');
    out.write_all(&line)
}
