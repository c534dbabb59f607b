//! Which node of a cluster serves which slots, so that many keys are asked for in one message a node.
//!
//! Only a hint: where it is wrong, as while slots move, the driver finds each key by itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use futures_util::future;
use redis::Value as Answer;

use super::{
    fault::Fault,
    key::{SLOTS, slot_of},
    link::Link,
};

/// What the cluster said of its slots when it was last asked.
#[derive(Default)]
pub(super) struct Owners {
    known: RwLock<Option<Arc<Table>>>,
}

/// The number of the node of each slot; nodes are counted as the cluster lists them.
type Table = Vec<Option<usize>>;

impl Link {
    /// The values of keys of a cluster, in their order.
    pub(super) async fn get_each(&self, keys: &[String]) -> Result<Vec<Answer>, Fault> {
        if let Some(table) = self.table().await {
            match self.get_by_node(keys, &table).await {
                Err(fault) if fault.is_of_place() => self.owners().forget(),
                done => return done,
            }
        }
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let answers = self.run(&command).await?;
        redis::from_redis_value(answers).map_err(|fault| Fault::Driver(fault.into()))
    }

    async fn get_by_node(&self, keys: &[String], table: &Table) -> Result<Vec<Answer>, Fault> {
        let mut by_node: BTreeMap<Option<usize>, (u16, Vec<usize>)> = BTreeMap::new();
        for (position, key) in keys.iter().enumerate() {
            let slot = slot_of(key);
            let node = table.get(usize::from(slot)).copied().flatten();
            let (_, positions) = by_node.entry(node).or_insert((slot, Vec::new()));
            positions.push(position);
        }
        let asked = by_node.into_values().map(|(slot, positions)| async move {
            let mut commands = redis::pipe();
            for key in positions.iter().filter_map(|position| keys.get(*position)) {
                commands.cmd("GET").arg(key);
            }
            let answers = self.run_at_slot(slot, &commands).await?;
            let answers: Vec<Answer> =
                redis::from_redis_value(answers).map_err(|fault| Fault::Driver(fault.into()))?;
            Ok::<_, Fault>(positions.into_iter().zip(answers))
        });
        let mut answers = vec![Answer::Nil; keys.len()];
        for (position, answer) in future::try_join_all(asked).await?.into_iter().flatten() {
            if let Some(slot) = answers.get_mut(position) {
                *slot = answer;
            }
        }
        Ok(answers)
    }

    /// What is known of the slots, asked for where nothing is; none where the cluster does not tell.
    async fn table(&self) -> Option<Arc<Table>> {
        if let Some(known) = self.owners().known() {
            return Some(known);
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = self.run_anywhere(&command).await.ok()?;
        let table = Arc::new(read(answer)?);
        self.owners().learn(Arc::clone(&table));
        Some(table)
    }
}

impl Owners {
    fn known(&self) -> Option<Arc<Table>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn learn(&self, table: Arc<Table>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(table);
    }

    fn forget(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = None;
    }
}

/// Reads the answer to CLUSTER SLOTS: a list of first slot, last slot, the node that owns them, its replicas.
fn read(answer: Answer) -> Option<Table> {
    let ranges: Vec<Vec<Answer>> = redis::from_redis_value(answer).ok()?;
    let mut table = vec![None; usize::from(SLOTS)];
    let mut nodes: Vec<Answer> = Vec::new();
    for range in ranges {
        let mut parts = range.into_iter();
        let first: usize = redis::from_redis_value(parts.next()?).ok()?;
        let last: usize = redis::from_redis_value(parts.next()?).ok()?;
        let owner = parts.next()?;
        let number = nodes.iter().position(|node| *node == owner);
        let number = number.unwrap_or_else(|| {
            nodes.push(owner);
            nodes.len() - 1
        });
        for slot in table.get_mut(first..=last)? {
            *slot = Some(number);
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn range(first: i64, last: i64, port: i64) -> Answer {
        let node = Answer::Array(vec![
            Answer::BulkString(b"127.0.0.1".to_vec()),
            Answer::Int(port),
        ]);
        Answer::Array(vec![Answer::Int(first), Answer::Int(last), node])
    }

    #[test]
    fn every_slot_has_the_node_that_is_listed_for_it() {
        let answer = Answer::Array(vec![
            range(0, 99, 1),
            range(100, 100, 2),
            range(200, 16_383, 1),
        ]);
        let table = read(answer).unwrap();
        let at = |slot: usize| table[slot];
        assert_eq!([at(0), at(99), at(100)], [Some(0), Some(0), Some(1)]);
        assert_eq!([at(101), at(200), at(16_383)], [None, Some(0), Some(0)]);
        let beyond = Answer::Array(vec![range(0, 16_384, 1)]);
        assert_eq!(read(beyond), None);
        let backward = Answer::Array(vec![range(9, 3, 1)]);
        assert_eq!(read(backward), None);
        assert_eq!(read(Answer::Nil), Some(vec![None; 16_384]));
    }
}
