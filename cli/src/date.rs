//! Points and spans of time as people read them.

use std::time::Duration;

use lloom_receipts::UnixSeconds;

const SECONDS_OF_DAY: u64 = 86_400;

/// `2023-11-14 22:13:20 UTC`. A stranger may well have signed a time that is none.
pub fn utc(time: UnixSeconds) -> String {
    let seconds = time.get();
    let mut days = seconds / SECONDS_OF_DAY;
    let mut year = 1970u32;
    loop {
        if year > 9_999 {
            return "no time of this calendar".to_owned();
        }
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let second = seconds % SECONDS_OF_DAY;
    format!(
        "{year:04}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        days + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// So much time, in words.
pub fn minutes(left: Duration) -> String {
    match left.as_secs() / 60 {
        0 => "less than a minute".to_owned(),
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13:20 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (253_402_300_800, "no time of this calendar"),
            (u64::MAX, "no time of this calendar"),
        ] {
            assert_eq!(utc(UnixSeconds::new(seconds)), text);
        }
    }
}
