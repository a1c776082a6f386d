//! What a stopped world looks like: for `--step`.

use throng_wire::ShardId;

use super::World;

impl World {
    /// Prints where all nodes stand.
    pub(crate) fn describe(&mut self) {
        println!("stopped after {} events at {:?}, calm: {}", self.handled, self.now, self.calm);
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let paused = node.paused_until >= self.now;
            println!("node {number}: life {}, paused: {paused}, refused: {}", node.life, node.is_refused);
            let Some(process) = &mut node.process else {
                println!("  down");
                continue;
            };
            // The last one is that of the metadata.
            for shard in (0..=self.scenario.shards).map(ShardId) {
                let suspect = if process.router.store().is_suspect(shard) { ", suspect" } else { "" };
                let (term, leader) =
                    (process.router.store().term(shard), process.router.store().leader(shard));
                let applied = process.router.machines().applied(shard);
                let (peer, conf) = (process.router.store().peer(shard), process.router.store().conf(shard));
                println!(
                    "  shard {shard}: {peer:?}{suspect}, term {term}, leader {leader:?}, applied {applied:?}, {conf:?}"
                );
            }
            println!("  {:?}", process.router.stats());
            println!("  {:?}", process.router.store().stats());
        }
        println!("unanswered sends: {}, acknowledged: {}", self.model.open_sends(), self.model.acked_sends());
    }
}
