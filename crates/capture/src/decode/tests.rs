//! The bytes are those of PostgreSQL 15.18, by `pg_logical_slot_peek_binary_changes`.

use proptest::prelude::*;
use ptr_model::Datum;

use super::*;

const RELATION: &str = "52000040057075626c69630074006400040169640000000017ffffffff00760000000019ffffffff\
                        006d0000004001ffffffff006269670000000019ffffffff";
const UPDATE_OF_KEY: &str = "55000040054b00047400000001326e6e6e4e00047400000001336e6e6e";
const EVERY_KIND: [&str; 16] = [
    "42000000000152d000000303e3e29a13cc000002da",
    "4300000000000152d000000000000152d030000303e3e29a13cc",
    "4f00000000000000ab6f726700",
    "59000040017075626c6963006d6f6f6400",
    RELATION,
    "520000400c7075626c696300660066000201610000000017ffffffff016200000006a400050006",
    "49000040054e00047400000001326e6e6e",
    "55000040054e000474000000013174000000016274000000026f6b75",
    UPDATE_OF_KEY,
    "550000400c4f00027400000001317400000004312e35304e00027400000001327400000004312e3530",
    "440000400c4f00027400000001327400000004312e3530",
    "44000040054b00047400000001336e6e6e",
    "540000000203000040050000400c",
    "4d01000000000152e2a070667800000000026869",
    "4d00000000000152e308706678000000000200ff",
    "49000040054e00046200000004000000026e6e6e",
];

fn bytes(hexadecimal: &str) -> Bytes {
    let digits: Vec<u8> = hexadecimal.bytes().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoded(hexadecimal: &str) -> PgOutput {
    decode(bytes(hexadecimal)).unwrap()
}

fn text(value: &'static str) -> Datum {
    Datum::Text(Bytes::from_static(value.as_bytes()))
}

#[test]
fn begin_and_commit_frame_a_transaction() {
    let commit_time = "2026-11-22T22:37:11.510476Z".parse::<Timestamp>().unwrap();
    let begin = decoded(EVERY_KIND[0]);
    let PgOutput::Begin { final_lsn, commit_time: begin_time, xid } = begin else { panic!("{begin:?}") };
    assert_eq!((final_lsn, xid), ("0/152D000".parse().unwrap(), Xid(0x2da)));
    let commit = decoded(EVERY_KIND[1]);
    let PgOutput::Commit { commit_lsn, end_lsn, commit_time: time } = commit else { panic!("{commit:?}") };
    assert_eq!((commit_lsn, end_lsn), (final_lsn, "0/152D030".parse().unwrap()));
    assert_eq!(time, begin_time);
    assert!((time.0 - commit_time.0).abs() < 3_600_000_000, "{time}");
}

#[test]
fn origin_type_and_relation_are_announced() {
    assert_eq!(decoded(EVERY_KIND[2]), PgOutput::Origin { commit_lsn: Lsn(0xab), name: "org".to_owned() });
    let (schema, name) = ("public".to_owned(), "mood".to_owned());
    assert_eq!(decoded(EVERY_KIND[3]), PgOutput::Type { oid: Oid(0x4001), schema, name });
    let PgOutput::Relation(relation) = decoded(RELATION) else { panic!() };
    assert_eq!(
        (relation.oid, relation.schema.as_str(), relation.name.as_str()),
        (Oid(0x4005), "public", "t")
    );
    assert_eq!(relation.replica_identity, ReplicaIdentity::Default);
    let columns: Vec<_> =
        relation.columns.iter().map(|c| (c.name.as_str(), c.in_identity, c.type_oid.0)).collect();
    assert_eq!(columns, [("id", true, 23), ("v", false, 25), ("m", false, 0x4001), ("big", false, 25)]);
    let PgOutput::Relation(full) = decoded(EVERY_KIND[5]) else { panic!() };
    assert_eq!((full.replica_identity, full.columns[1].type_modifier), (ReplicaIdentity::Full, 0x50006));
}

#[test]
fn old_rows_are_whole_or_keys_or_absent() {
    let key = |value| OldTuple::Key(Tuple(vec![text(value), Datum::Null, Datum::Null, Datum::Null]));
    let full = |value| OldTuple::Full(Tuple(vec![text(value), text("1.50")]));
    let old = |hexadecimal| match decoded(hexadecimal) {
        PgOutput::Update { old, .. } | PgOutput::Delete { old, .. } => old,
        other => panic!("{other:?}"),
    };
    assert_eq!(old(EVERY_KIND[7]), OldTuple::Unchanged);
    assert_eq!(old(UPDATE_OF_KEY), key("2"));
    assert_eq!(old(EVERY_KIND[9]), full("1"));
    assert_eq!(old(EVERY_KIND[10]), full("2"));
    assert_eq!(old(EVERY_KIND[11]), key("3"));
}

#[test]
fn values_are_text_binary_null_or_unchanged() {
    let new = |hexadecimal| match decoded(hexadecimal) {
        PgOutput::Insert { new, .. } | PgOutput::Update { new, .. } => new.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(new(EVERY_KIND[6]), [text("2"), Datum::Null, Datum::Null, Datum::Null]);
    assert_eq!(new(EVERY_KIND[7]), [text("1"), text("b"), text("ok"), Datum::UnchangedToast]);
    assert_eq!(new(EVERY_KIND[15])[0], Datum::Binary(Bytes::from_static(&[0, 0, 0, 2])));
}

#[test]
fn truncate_and_messages_carry_their_flags() {
    let options = TruncateOptions { cascade: true, restart_identity: true };
    let relations = vec![Oid(0x4005), Oid(0x400c)];
    assert_eq!(decoded(EVERY_KIND[12]), PgOutput::Truncate { relations, options });
    let message = |transactional, lsn: &str, content: &'static [u8]| PgOutput::Message {
        transactional,
        lsn: lsn.parse().unwrap(),
        prefix: "pfx".to_owned(),
        content: Bytes::from_static(content),
    };
    assert_eq!(decoded(EVERY_KIND[13]), message(true, "0/152E2A0", b"hi"));
    assert_eq!(decoded(EVERY_KIND[14]), message(false, "0/152E308", b"\x00\xff"));
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for message in EVERY_KIND {
        let whole = bytes(message);
        for length in 0..whole.len() {
            assert!(decode(whole.slice(..length)).is_err(), "{message} cut at {length} was taken");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(decode(longer.into()), Err(DecodeError::TrailingBytes { extra: 1, .. })));
    }
}

#[test]
fn what_the_protocol_rules_out_is_refused() {
    for (message, part) in [
        ("", "ends at byte 0"),
        ("53000002da01", "'S' begins no pgoutput message"),
        ("4301000000000152d000000000000152d030000303e3e29a13cc", "flags"),
        ("52000040057075626c69630074007a0000", "replica identity"),
        ("49000040054effff", "number of columns"),
        ("49000040054e00017400000bb8", "ends at byte"),
        ("49000040054e000174ffffffff", "value length"),
        ("49000040054e000178", "column kind"),
        ("49000040054b0000", "tuple kind"),
        ("54ffffffff00", "number of relations"),
        ("540000000004", "option bits"),
        ("4d02000000000152e2a070667800000000026869", "flags"),
    ] {
        let error = decode(bytes(message)).unwrap_err().to_string();
        assert!(error.contains(part), "{message}: {error}");
    }
}

#[test]
fn a_name_that_is_not_utf8_is_refused_by_the_relation_it_belongs_to() {
    let error = decode(bytes("52000040057075626c696300ff00640000")).unwrap_err().to_string();
    assert!(error.contains("16389") && error.contains("SQL_ASCII"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn an_altered_message_is_decoded_or_refused(
        which in 0..EVERY_KIND.len(), at in any::<prop::sample::Index>(), value: u8,
    ) {
        let mut bytes = bytes(EVERY_KIND[which]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = decode(bytes.into());
    }
}
