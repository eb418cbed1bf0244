// Package notify tells the world about changes of objects: RGW's bucket
// notifications and topics, with promises that RGW does not make.
//
// The parts, in the order in which an event meets them:
//
//   - Rule: one notification of a bucket (event types, topic, filters). A
//     bucket's rules are JSON in its attribute "notification".
//   - Topic, Topics: where events go, and how; kept in store.Records.
//   - Publisher, Pending: all that s3api sees. Reserve holds room in the queue
//     of every persistent topic that wants the change, before anything is
//     written; Pending.Do carries the change out and commits its events.
//   - Resolver: after a crash it asks the store what became of the ops behind
//     open reservations of that store, and commits or aborts in their place.
//   - Sharing: which of the queues are this gateway's to deliver, where others
//     have them too (docs/adr/0008-many-gateways.md).
//   - Dispatcher: delivers these queues, each under its lease, in order per
//     key, with retries, until an entry is acked or given up.
//   - Pusher: one kind of endpoint (HTTP here; brokers later).
//   - Dead letters: what was given up, kept per topic until someone sends it
//     again or purges it.
//   - Listener: live events for `gateway listen`, from memory, promised to
//     nobody.
//
// Guarantees, for persistent topics: an event is delivered at least once for
// each change that became visible, none for a change that did not; events of
// one key are sent in the order of the changes, the next one only when the one
// before was acked or given up; their sequencers grow. Synchronous topics get
// one attempt with a deadline, before the client gets its answer, and never
// fail the request.
//
// Nothing runs before Service.Run is called but the commits of events behind
// the answers to requests, and nothing runs on after it returned.
package notify
