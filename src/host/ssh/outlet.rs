//! Where a channel's events go, without the channel ever waiting for a slow consumer.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::host::{Event, Sink};

/// Output kept for a consumer that does not keep up, before the channel is given up: more than
/// the largest answer that a helper shell is asked for, and as much as a host can make an idle
/// one keep.
pub(super) const BACKLOG: usize = 512 * 1024;

/// Where events go. Taking one never waits.
pub(super) enum Outlet {
    /// To a consumer that may be slow: kept up to a limit, then the channel is given up.
    Queue(Queue),
    /// To a sink that bounds itself.
    Sink(Box<dyn Sink>),
}

/// Events on their way to a slow consumer.
pub(super) struct Queue {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    bytes: usize,
}

impl Outlet {
    pub(super) fn queue(events: mpsc::Sender<Event>) -> Self {
        Self::Queue(Queue { events, waiting: VecDeque::new(), bytes: 0 })
    }

    /// Takes an event; false when the consumer is too far behind.
    pub(super) fn put(&mut self, event: Event) -> bool {
        match self {
            Self::Sink(sink) => {
                sink.take(event);
                true
            }
            Self::Queue(queue) => {
                queue.bytes += size(&event);
                queue.waiting.push_back(event);
                queue.hand_over();
                queue.bytes <= BACKLOG
            }
        }
    }

    /// Whether a consumer has not taken what came.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::Queue(queue) if !queue.waiting.is_empty())
    }

    /// Whether more output is to be read for it.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Sink(sink) => sink.has_room(),
            Self::Queue(_) => true,
        }
    }

    /// Goes on handing events over, or waits for room where `held` says that nothing is read for
    /// want of it; never ends when there is nothing to do. False when the consumer is gone. May be
    /// cancelled.
    ///
    /// Whether there is room is not asked anew: it may come between two questions, and then one
    /// answer would keep the channel from being read and the other this from waking anybody.
    pub(super) async fn drain(&mut self, held: bool) -> bool {
        let queue = match self {
            Self::Queue(queue) => queue,
            Self::Sink(_) if !held => return std::future::pending().await,
            Self::Sink(sink) => {
                sink.room().await;
                return true;
            }
        };
        if queue.waiting.is_empty() {
            queue.events.closed().await;
            return false;
        }
        let Ok(permit) = queue.events.reserve().await else { return false };
        if let Some(event) = queue.waiting.pop_front() {
            queue.bytes -= size(&event);
            permit.send(event);
        }
        true
    }

    /// Hands over what is left and the last word, for as long as the consumer listens.
    pub(super) async fn finish(mut self, last: Event) {
        self.put(last);
        if let Self::Queue(queue) = self {
            for event in queue.waiting {
                if queue.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Queue {
    fn hand_over(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            let bytes = size(&event);
            match self.events.try_send(event) {
                Ok(()) => self.bytes -= bytes,
                Err(
                    mpsc::error::TrySendError::Full(event)
                    | mpsc::error::TrySendError::Closed(event),
                ) => {
                    self.waiting.push_front(event);
                    return;
                }
            }
        }
    }
}

/// Bytes an event holds; small ones count for what they cost.
fn size(event: &Event) -> usize {
    let payload = match event {
        Event::Stdout(bytes) | Event::Stderr(bytes) => bytes.len(),
        Event::ExitStatus(_)
        | Event::ExitSignal(_)
        | Event::Closed
        | Event::Detached
        | Event::Lost(_) => 0,
    };
    payload + size_of::<Event>()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    /// A sink that has found room by now.
    struct Roomy;

    impl Sink for Roomy {
        fn take(&mut self, _: Event) {}

        fn has_room(&self) -> bool {
            true
        }

        fn room(&self) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    /// Guards against a channel that is never read again: its disk caught up between the moment in
    /// which it was found to be behind and the wait for it.
    #[tokio::test]
    async fn room_that_came_before_it_was_waited_for_is_found() {
        let mut outlet = Outlet::Sink(Box::new(Roomy));
        assert_eq!(outlet.drain(true).now_or_never(), Some(true));
        assert_eq!(outlet.drain(false).now_or_never(), None, "nothing is held back");
    }
}
