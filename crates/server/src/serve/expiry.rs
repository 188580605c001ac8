//! Until when a certificate is valid: as much of X.509 as leads to that (RFC 5280, 4.1). Pure.

use ptr_model::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`, which the first version of certificates does not have.
const VERSION: u8 = 0xA0;

/// The last moment of a certificate's time, DER; `None` where it does not read as one.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (to_be_signed, _) = element(certificate, SEQUENCE)?;
    let mut rest = element(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    time(rest).map(|(time, _)| time)
}

/// The contents of the element of this tag that the bytes begin with, and what comes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // So many bytes of length follow; none are needed for more than a certificate has.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// Years of two digits are those from 1950 to 2049.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (century, (digits, rest)) = match (element(bytes, UTC_TIME), element(bytes, GENERALIZED_TIME)) {
        (Some((digits, rest)), _) if digits.first() < Some(&b'5') => ("20", (digits, rest)),
        (Some(found), _) => ("19", found),
        (None, found) => ("", found?),
    };
    let text = format!("{century}{}", std::str::from_utf8(digits).ok()?);
    if !text.is_ascii() || text.len() != "20260501123000Z".len() {
        return None;
    }
    let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
    let [hour, minute, second] = [&text[8..10], &text[10..12], &text[12..14]];
    let time = format!("{year}-{month}-{day}T{hour}:{minute}:{second}{}", &text[14..]).parse().ok()?;
    Some((time, rest))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ptr_testkit::Certificates;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn the_end_is_read_of_both_forms_of_time_and_of_no_half_certificate() {
        let folder = tempfile::tempdir().unwrap();
        // Up to 2049 a certificate has two digits of the year, from then on four.
        for (second, end) in
            [(2_524_607_999, "2049-12-31T23:59:59.000000Z"), (2_524_608_000, "2050-01-01T00:00:00.000000Z")]
        {
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let files = Certificates::make_until(folder.path(), &["localhost"], second);
            let pem = std::fs::read(files.certificate).unwrap();
            let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
            assert_eq!(not_after(&certificate).unwrap().to_string(), end);
            for length in 0..certificate.len() {
                let _ = not_after(&certificate[..length]);
                let mut altered = certificate.to_vec();
                altered[length] ^= 0xFF;
                let _ = not_after(&altered);
            }
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[SEQUENCE, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0]), None);
    }
}
