// Package linear changes the same few keys by many clients through several
// gateways, while gateways and the OSD below them are killed and halted at
// random, and checks that
//
//   - the history of each key is linearizable (porcupine): there is one order
//     of all ops, which fits what each client was told and when, and of which a
//     register, or a stack of versions, could say the same;
//   - the events of each key tell just this history: every change has its event,
//     none was invented, and their sequencers have the order of the changes;
//   - whoever lists, at either gateway, gets what whoever reads gets, and fsck
//     finds nothing.
//
// Clients ask for each op once (a completion of an upload more often), and
// note when they asked and when the answer came. An op without an answer, or
// with one that tells nothing (5xx), may have happened or not.
//
// Time goes by in rounds. At the end of each the gateways are made well, every key
// is read, and all of the above is checked; what was read is where the next
// round begins. So the histories stay short, and a fault is found near its cause.
package linear
