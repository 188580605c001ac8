//! Values far larger than a page, and those that a change leaves where they are.

use ptr_testkit::{ServerVersion, TestServerOptions};

use crate::support::{
    Chance,
    pair::{DATABASE, Pair},
};

/// Text of so many megabytes that hardly compresses.
fn text_of(megabytes: u32) -> String {
    format!(
        "(SELECT string_agg(md5(i::text) || md5((i + 0.5)::text), '') FROM generate_series(1, {megabytes} * 16384) i)"
    )
}

async fn a_value_of(megabytes: u32, version: ServerVersion, is_updated: bool) {
    let pair = Pair::capturing_with(version, TestServerOptions::default(), async |primary| {
        primary.psql(DATABASE, "CREATE TABLE large (id int PRIMARY KEY, v text, n int)").await;
    })
    .await;
    let mut steps = vec![("inserted", format!("INSERT INTO large VALUES (1, {}, 0)", text_of(megabytes)))];
    if is_updated {
        steps.push(("beside it", "UPDATE large SET n = n + 1".to_owned()));
        steps.push(("key", "UPDATE large SET id = id + 1".to_owned()));
        steps.push(("changed", "UPDATE large SET v = reverse(v)".to_owned()));
    }
    steps.push(("deleted", "DELETE FROM large".to_owned()));
    let mut kept = vec![pair.keep_creation().await];
    for (name, sql) in steps {
        pair.primary.psql(DATABASE, &sql).await;
        kept.push(pair.keep(name).await);
    }
    pair.assert_all_come_back(&kept, &mut Chance::seeded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_ten_megabytes_comes_back() {
    a_value_of(10, ServerVersion::Debian15, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_value_of_a_hundred_megabytes_comes_back() {
    a_value_of(100, ServerVersion::Debian15, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and some gigabytes of memory"]
async fn a_value_of_500_megabytes_comes_back_on_15() {
    a_value_of(500, ServerVersion::Debian15, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and some gigabytes of memory"]
async fn a_value_of_500_megabytes_comes_back_on_18() {
    a_value_of(500, ServerVersion::Pypi18, false).await;
}
