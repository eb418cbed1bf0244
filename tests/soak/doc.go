// Package soak lives a day of a site in minutes: three gateways, two of which
// share queues on a Redis server, clients that put, copy, upload and delete all
// the time, topics with every kind of endpoint, and somebody who at random kills
// and halts brokers and gateways, cuts connections, changes topics, takes
// notifications away and puts them back, and sends dead letters again.
//
// In the end all is well again, all queues run empty, and what arrived is
// compared with what was done:
//
//   - each change has its event at least once at each topic that its bucket had
//     a notification for;
//   - the first arrivals of a key's events have the order of its changes;
//   - nothing else arrived: no event of a change that nobody asked for, that did
//     not happen, or that no notification was there for;
//   - no event is a dead letter, but those of the topic that is for that, until
//     they are sent again.
//
// Each key has one client, which looks after each request whose outcome it was
// not told whether it happened. So all is known, and nothing is taken on trust.
package soak
