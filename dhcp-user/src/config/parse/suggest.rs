//! Near misses: which known word somebody may have meant.

use crate::config::limits::SUGGESTIONS_MAX;

/// The candidate that differs least from `word`, if it is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let limit = match word.len() {
        0..=3 => 1,
        4..=8 => 2,
        _ => 3,
    };
    candidates
        .take(SUGGESTIONS_MAX)
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase(), limit), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Number of letters to insert, remove or change between two words; anything above `limit` when it is more.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    if a.len().abs_diff(b.len()) > limit || a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let change = diagonal.saturating_add(usize::from(x != y));
            diagonal = *cell;
            left = change.min(diagonal.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_what_is_near_is_suggested() {
        let words = ["default-lease-time", "max-lease-time", "range", "on"];
        for (word, want) in [
            ("defualt-lease-time", Some("default-lease-time")),
            ("RANGE", Some("range")),
            ("rnage", Some("range")),
            ("of", Some("on")),
            ("something-else", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words.into_iter()), want, "{word}");
        }
    }
}
