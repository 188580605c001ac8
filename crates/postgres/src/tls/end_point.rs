//! Channel binding data `tls-server-end-point` (RFC 5929, section 4.1): the server certificate hashed
//! with the hash of its own signature, or SHA-256 where that is MD5 or SHA-1.
//!
//! SCRAM mixes it into its proof, so that a man in the middle with another certificate is found out.

use sha2::{Digest, Sha256, Sha384, Sha512};

const RSA_PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

/// The binding data for a certificate in DER, or `None` where the RFC defines none (Ed25519, PSS).
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let oid = signature_algorithm(certificate)?;
    let (last, family) = oid.split_last()?;
    match (family, last) {
        (RSA_PKCS1, 4 | 5 | 11) | (ECDSA_SHA2, 2) => Some(Sha256::digest(certificate).to_vec()),
        (RSA_PKCS1, 12) | (ECDSA_SHA2, 3) => Some(Sha384::digest(certificate).to_vec()),
        (RSA_PKCS1, 13) | (ECDSA_SHA2, 4) => Some(Sha512::digest(certificate).to_vec()),
        _ if oid == ECDSA_SHA1 => Some(Sha256::digest(certificate).to_vec()),
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, .. }, .. }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (content, _) = element(certificate, SEQUENCE)?;
    let (_, after_tbs) = element(content, SEQUENCE)?;
    let (algorithm, _) = element(after_tbs, SEQUENCE)?;
    element(algorithm, OBJECT_IDENTIFIER).map(|(oid, _)| oid)
}

/// One DER element with this tag: its content and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        length = digits.iter().try_fold(0usize, |n, d| n.checked_mul(256)?.checked_add(usize::from(*d)))?;
        rest = behind;
    }
    let split = rest.split_at_checked(length)?;
    (found == tag).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_certificate_has_no_binding() {
        assert_eq!(tls_server_end_point(b""), None);
        assert_eq!(tls_server_end_point(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(tls_server_end_point(&[0x30, 3, 0x30, 9, 1]), None);
    }

    #[test]
    fn the_hash_follows_the_signature() {
        // SEQUENCE { SEQUENCE {}, SEQUENCE { OID } }, as much of a certificate as matters here.
        let with = |oid: &[u8]| {
            let len = |n: usize| u8::try_from(n).unwrap();
            let mut der =
                vec![0x30, len(oid.len() + 6), 0x30, 0, 0x30, len(oid.len() + 2), 6, len(oid.len())];
            der.extend(oid);
            der
        };
        let rsa_sha384 = with(&[RSA_PKCS1, &[12]].concat());
        assert_eq!(tls_server_end_point(&rsa_sha384).map(|hash| hash.len()), Some(48));
        assert_eq!(tls_server_end_point(&with(&[0x2b, 0x65, 0x70])), None);
    }
}
