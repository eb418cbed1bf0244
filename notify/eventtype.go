package notify

import (
	"encoding/json"
	"fmt"
	"strings"
)

// EventType is a set of event types, in RGW's bits: a subscription matches an
// event if the two have a bit in common.
type EventType uint64

// The event types; those that end in "All" are RGW's wildcards.
const (
	ObjectCreatedPut                     EventType = 0x1
	ObjectCreatedPost                    EventType = 0x2
	ObjectCreatedCopy                    EventType = 0x4
	ObjectCreatedCompleteMultipartUpload EventType = 0x8
	ObjectCreatedAll                     EventType = 0xF

	ObjectRemovedDelete              EventType = 0x10
	ObjectRemovedDeleteMarkerCreated EventType = 0x20
	ObjectRemovedAll                 EventType = 0xF0

	ObjectLifecycleExpirationCurrent              EventType = 0x100
	ObjectLifecycleExpirationNonCurrent           EventType = 0x200
	ObjectLifecycleExpirationDeleteMarker         EventType = 0x400
	ObjectLifecycleExpirationAbortMultipartUpload EventType = 0x800
	ObjectLifecycleExpirationAll                  EventType = 0xF00
	ObjectLifecycleTransitionCurrent              EventType = 0x1000
	ObjectLifecycleTransitionNonCurrent           EventType = 0x2000
	ObjectLifecycleTransitionAll                  EventType = 0xF000
	ObjectLifecycleAll                            EventType = 0xFF00

	ObjectSyncedCreate                EventType = 0x10000
	ObjectSyncedDelete                EventType = 0x20000
	ObjectSyncedDeletionMarkerCreated EventType = 0x40000
	ObjectSyncedAll                   EventType = 0xF0000

	LifecycleExpirationDelete              EventType = 0x100000
	LifecycleExpirationDeleteMarkerCreated EventType = 0x200000
	LifecycleExpirationAll                 EventType = 0xF00000
	LifecycleTransition                    EventType = 0xF000000

	ReplicationCreate                EventType = 0x10000000
	ReplicationDelete                EventType = 0x20000000
	ReplicationDeletionMarkerCreated EventType = 0x40000000
	ReplicationAll                   EventType = 0xF0000000
)

// eventNames is in the order in which names are looked up: the first name of a
// type is the one that String gives; later ones are spellings of older
// releases. It is never written.
var eventNames = [...]struct {
	name string
	typ  EventType
}{
	{"ObjectCreated:*", ObjectCreatedAll},
	{"ObjectCreated:Put", ObjectCreatedPut},
	{"ObjectCreated:Post", ObjectCreatedPost},
	{"ObjectCreated:Copy", ObjectCreatedCopy},
	{"ObjectCreated:CompleteMultipartUpload", ObjectCreatedCompleteMultipartUpload},
	{"ObjectRemoved:*", ObjectRemovedAll},
	{"ObjectRemoved:Delete", ObjectRemovedDelete},
	{"ObjectRemoved:DeleteMarkerCreated", ObjectRemovedDeleteMarkerCreated},
	{"ObjectLifecycle:*", ObjectLifecycleAll},
	{"ObjectLifecycle:Expiration:*", ObjectLifecycleExpirationAll},
	{"ObjectLifecycle:Expiration:Current", ObjectLifecycleExpirationCurrent},
	{"ObjectLifecycle:Expiration:NonCurrent", ObjectLifecycleExpirationNonCurrent},
	{"ObjectLifecycle:Expiration:Noncurrent", ObjectLifecycleExpirationNonCurrent},
	{"ObjectLifecycle:Expiration:DeleteMarker", ObjectLifecycleExpirationDeleteMarker},
	{"ObjectLifecycle:Expiration:AbortMultipartUpload", ObjectLifecycleExpirationAbortMultipartUpload},
	{"ObjectLifecycle:Expiration:AbortMPU", ObjectLifecycleExpirationAbortMultipartUpload},
	{"ObjectLifecycle:Transition:*", ObjectLifecycleTransitionAll},
	{"ObjectLifecycle:Transition:Current", ObjectLifecycleTransitionCurrent},
	{"ObjectLifecycle:Transition:NonCurrent", ObjectLifecycleTransitionNonCurrent},
	{"ObjectLifecycle:Transition:Noncurrent", ObjectLifecycleTransitionNonCurrent},
	{"ObjectSynced:*", ObjectSyncedAll},
	{"ObjectSynced:Create", ObjectSyncedCreate},
	{"ObjectSynced:Delete", ObjectSyncedDelete},
	{"ObjectSynced:DeletionMarkerCreated", ObjectSyncedDeletionMarkerCreated},
	{"LifecycleExpiration:*", LifecycleExpirationAll},
	{"LifecycleExpiration:Delete", LifecycleExpirationDelete},
	{"LifecycleExpiration:DeleteMarkerCreated", LifecycleExpirationDeleteMarkerCreated},
	{"LifecycleTransition", LifecycleTransition},
	{"Replication:*", ReplicationAll},
	{"Replication:Create", ReplicationCreate},
	{"Replication:Delete", ReplicationDelete},
	{"Replication:DeletionMarkerCreated", ReplicationDeletionMarkerCreated},
}

// ParseEventType reads one type, with or without "s3:".
// Errors: ErrUnknownEvent.
func ParseEventType(s string) (EventType, error) {
	name := strings.TrimPrefix(s, "s3:")
	for _, e := range eventNames {
		if e.name == name {
			return e.typ, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrUnknownEvent, s)
}

// Name is the type as records spell it, without "s3:". A set without a name
// of its own gives the names of its parts, separated by commas.
func (t EventType) Name() string {
	for _, e := range eventNames {
		if e.typ == t {
			return e.name
		}
	}
	var parts []string
	rest := t
	for _, e := range eventNames {
		if e.typ&rest == e.typ {
			parts = append(parts, e.name)
			rest &^= e.typ
		}
	}
	return strings.Join(parts, ",")
}

// String is the type as subscriptions spell it: "s3:ObjectCreated:Put".
func (t EventType) String() string { return "s3:" + t.Name() }

// Removes tells whether t is an event of something that goes away, so that
// the record shows what it was.
func (t EventType) Removes() bool {
	return t&(ObjectRemovedAll|ObjectLifecycleExpirationAll|LifecycleExpirationAll|
		ObjectSyncedDelete|ObjectSyncedDeletionMarkerCreated|
		ReplicationDelete|ReplicationDeletionMarkerCreated) != 0
}

// MarshalJSON gives the string.
func (t EventType) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads what MarshalJSON gives.
func (t *EventType) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	typ, err := ParseEventType(s)
	if err != nil {
		return err
	}
	*t = typ
	return nil
}
