//! Dates of the leases file: civil time to seconds and back, without a calendar library.

use super::DateFormat;
use crate::lease::time::WallTime;

const DAY_SECS: u32 = 86_400;
const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Days before each month of a common year.
const DAYS_BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// Days from 0000-01-01 to 1970-01-01.
const EPOCH_DAYS: u32 = 719_528;

/// Days from 1970-01-01 to a date; `None` before that.
fn days_of(year: u32, month: u32, day: u32) -> Option<u32> {
    let before = *DAYS_BEFORE_MONTH.get(month.checked_sub(1)? as usize)?;
    // Leap days up to the end of the year before, year 0 among them.
    let past = year.checked_sub(1)?;
    let leaps = past / 4 - past / 100 + past / 400 + 1;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_day = u32::from(is_leap && month > 2);
    (year * 365 + leaps + before + leap_day + day - 1).checked_sub(EPOCH_DAYS)
}

/// Year, month and day of a day since 1970-01-01, the way back of [`days_of`].
const fn date_of(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A date as its parts stand in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Civil {
    pub(super) year: u32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
}

impl Civil {
    /// The instant; `offset_secs` is added (dhcpd: an optional number after the time). `None` for what is no date.
    ///
    /// Instants before 1970 become "not known", those from 2038 on "never".
    pub(super) fn to_wall(self, offset_secs: i64) -> Option<WallTime> {
        let is_date = (1..=12).contains(&self.month) && (1..=31).contains(&self.day) && self.year <= 9999;
        if !is_date || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let Some(days) = days_of(self.year, self.month, self.day) else {
            return Some(WallTime::NONE);
        };
        let secs = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        let total = i64::from(days) * i64::from(DAY_SECS) + secs + offset_secs;
        Some(u64::try_from(total).map_or(WallTime::NONE, WallTime::from_secs))
    }
}

/// Reads `W YYYY/MM/DD HH:MM:SS;` when it stands exactly so, as dhcpd writes it; the bytes used with it.
pub(super) fn parse_plain(text: &[u8]) -> Option<(WallTime, usize)> {
    let text: &[u8; 22] = text.first_chunk()?;
    let [w, b' ', y0, y1, y2, y3, b'/', m0, m1, b'/', d0, d1, b' ', h0, h1, b':', n0, n1, b':', s0, s1, b';'] = *text
    else {
        return None;
    };
    let digits = [w, y0, y1, y2, y3, m0, m1, d0, d1, h0, h1, n0, n1, s0, s1];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |tens: u8, ones: u8| u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
    let civil = Civil {
        year: two(y0, y1) * 100 + two(y2, y3),
        month: two(m0, m1),
        day: two(d0, d1),
        hour: two(h0, h1),
        minute: two(n0, n1),
        second: two(s0, s1),
    };
    civil.to_wall(0).map(|wall| (wall, text.len()))
}

/// Writes a date and its semicolon; in the local format the comment, too.
pub(super) fn write(time: WallTime, format: DateFormat, out: &mut Vec<u8>) {
    if time >= WallTime::NEVER {
        out.extend_from_slice(b"never;");
        return;
    }
    match format {
        DateFormat::Default => {
            let (days, secs) = (time.secs() / DAY_SECS, time.secs() % DAY_SECS);
            let (year, month, day) = date_of(days);
            let ([y0, y1], [y2, y3], [m0, m1], [d0, d1]) = (two(year / 100), two(year % 100), two(month), two(day));
            let ([h0, h1], [n0, n1], [s0, s1]) = (two(secs / 3600), two(secs / 60 % 60), two(secs % 60));
            let weekday = b'0' + ((days + 4) % 7) as u8;
            // Six of them in every record: at once, not byte by byte.
            out.extend_from_slice(&[
                weekday, b' ', y0, y1, y2, y3, b'/', m0, m1, b'/', d0, d1, b' ', h0, h1, b':', n0, n1, b':', s0, s1,
                b';',
            ]);
        }
        DateFormat::Local { utc_offset_secs } => {
            out.extend_from_slice(b"epoch ");
            write_number(time.secs(), out);
            out.extend_from_slice(b"; # ");
            let local = i64::from(time.secs()) + i64::from(utc_offset_secs);
            let local = u32::try_from(local).unwrap_or_default();
            let (days, secs) = (local / DAY_SECS, local % DAY_SECS);
            let (year, month, day) = date_of(days);
            out.extend_from_slice(WEEKDAYS.get((days as usize + 4) % 7).map_or(b"", |name| name.as_slice()));
            out.push(b' ');
            out.extend_from_slice(MONTHS.get(month as usize - 1).map_or(b"", |name| name.as_slice()));
            out.push(b' ');
            write_two(day, out);
            out.push(b' ');
            write_clock(secs, out);
            out.push(b' ');
            write_number(year, out);
        }
    }
}

fn write_clock(secs: u32, out: &mut Vec<u8>) {
    write_two(secs / 3600, out);
    out.push(b':');
    write_two(secs / 60 % 60, out);
    out.push(b':');
    write_two(secs % 60, out);
}

fn write_two(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&two(number));
}

/// Two digits.
const fn two(number: u32) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Writes a decimal number.
pub(super) fn write_number(number: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(secs: u64, format: DateFormat) -> String {
        let mut out = Vec::new();
        write(WallTime::from_secs(secs), format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_written_as_dhcpd_writes_them() {
        assert_eq!(written(1_795_337_328, DateFormat::Default), "0 2026/11/22 08:48:48;");
        assert_eq!(written(1, DateFormat::Default), "4 1970/01/01 00:00:01;");
        assert_eq!(written(0x7fff_fffe, DateFormat::Default), "2 2038/01/19 03:14:06;");
        assert_eq!(written(0x7fff_ffff, DateFormat::Default), "never;");
        assert_eq!(written(1 << 40, DateFormat::Local { utc_offset_secs: 0 }), "never;");
        let local = |secs, offset| written(secs, DateFormat::Local { utc_offset_secs: offset });
        assert_eq!(local(1_507_216_949, 0), "epoch 1507216949; # Thu Oct 05 15:22:29 2017");
        assert_eq!(local(1_507_216_949, 36_000), "epoch 1507216949; # Fri Oct 06 01:22:29 2017");
    }

    #[test]
    fn every_day_until_2038_comes_back() {
        for day in 0..24_855_u64 {
            let time = day * 86_400 + day % 86_400;
            if time == 0 {
                continue;
            }
            let text = written(time, DateFormat::Default);
            assert_eq!(parse_plain(text.as_bytes()), Some((WallTime::from_secs(time), 22)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in
            ["0 2026/13/22 08:48:48;", "0 2026/11/32 08:48:48;", "0 2026/11/22 24:48:48;", "0 2026/1x/22 08:48:48;"]
        {
            assert_eq!(parse_plain(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_plain(b"0 2026/11/22 08:48:48"), None);
        assert_eq!(parse_plain(b"1 1969/11/22 08:48:48;").unwrap().0, WallTime::NONE);
        assert_eq!(parse_plain(b"1 2039/11/22 08:48:48;").unwrap().0, WallTime::NEVER);
    }
}
