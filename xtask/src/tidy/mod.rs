//! `./x tidy`: what the compiler does not check. Every rule names what to do instead.

mod layers;
mod metadata;
mod planted;
mod rocksdb;
mod rules;
mod sizes;
mod sources;
mod supply;

use std::path::Path;

use crate::Result;
use crate::tally::Tally;

/// One sentence per breach, `path:line: what, and what to do instead`.
type Breaches = Vec<String>;

/// Runs every rule over the checkout in the current directory.
pub(crate) fn run() -> Result<Tally> {
    let root = Path::new(".");
    let sources = sources::read(root)?;
    let metadata = metadata::Metadata::read()?;
    let results = [
        ("layers", layers::check(&metadata)),
        ("planted", planted::check(&metadata)),
        ("unsafe", rules::unsafe_code(&sources)),
        ("purity", rules::purity(&sources)),
        ("left-overs", rules::left_overs(&sources)),
        ("own paths", rules::machine_paths(&sources)),
        ("links", rules::relative_links(root, &sources)),
        ("protobuf", rules::protobuf_parser(&sources)),
        ("supply", supply::check(root, &metadata)?),
        ("rocksdb", rocksdb::check(root)?),
    ];
    let mut sum = Tally::default();
    for (rule, breaches) in &results {
        println!("tidy {rule:<11} {}", if breaches.is_empty() { "ok" } else { "BROKEN" });
        for breach in breaches {
            println!("    {breach}");
        }
        sum += Tally::one(breaches.is_empty());
    }
    sizes::report(&sources);
    Ok(sum)
}
