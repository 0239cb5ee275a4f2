//! Where a channel's events go, without the channel ever waiting for their consumer.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::host::Event;

/// Output kept for a consumer that does not keep up, before the channel is given up.
pub(super) const BACKLOG: usize = 8 << 20;

/// Where events go. Taking one never waits.
pub(super) enum Outlet {
    /// To a consumer that may be slow: kept up to a limit, then the channel is given up.
    Queue(Queue),
    /// To a sink that bounds itself.
    Sink(Box<dyn FnMut(Event) + Send>),
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
                sink(event);
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

    /// Goes on handing events over; never ends when there is nothing to do. False when the
    /// consumer is gone.
    pub(super) async fn drain(&mut self) -> bool {
        let Self::Queue(queue) = self else { return std::future::pending().await };
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
