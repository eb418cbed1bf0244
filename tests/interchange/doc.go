// Package interchange tests that Herald and a real radosgw share persistent
// queues: each delivers what the other one queued, and they hand a queue over
// to each other without losing an event (option queue.rados.rgw_compatible).
// It needs the build tag rados and the packages ceph-osd and radosgw.
//
// radosgw's times are constants: it looks for queues every 30 s, keeps a lock
// for 90 s and ends reservations after 120 s. The tests have to wait for them;
// with -short those are left out that would wait longest.
package interchange
