package store

import (
	"errors"
	"testing"
	"time"
)

func TestConditions_CheckWrite(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	cur := &Info{ETag: "abc", Size: 3, ModTime: when}
	size, other := int64(3), int64(4)
	tests := []struct {
		name            string
		cond            Conditions
		absent, present error
	}{
		{"zero", Conditions{}, nil, nil},
		{"if-match", Conditions{IfMatch: `"abc"`}, ErrNoSuchKey, nil},
		{"if-match bare", Conditions{IfMatch: "abc"}, ErrNoSuchKey, nil},
		{"if-match any", Conditions{IfMatch: "*"}, ErrNoSuchKey, nil},
		{"if-match list", Conditions{IfMatch: `"x","abc" , "y"`}, ErrNoSuchKey, nil},
		{"if-match weak", Conditions{IfMatch: `W/"abc"`}, ErrNoSuchKey, nil},
		{"if-match other", Conditions{IfMatch: `"abcd"`}, ErrNoSuchKey, ErrPreconditionFailed},
		{"if-none-match any", Conditions{IfNoneMatch: "*"}, nil, ErrPreconditionFailed},
		{"if-none-match quoted any", Conditions{IfNoneMatch: ` * `}, nil, ErrPreconditionFailed},
		{"if-none-match", Conditions{IfNoneMatch: `"abc"`}, nil, ErrPreconditionFailed},
		{"if-none-match other", Conditions{IfNoneMatch: `"x"`}, nil, nil},
		{"both hold", Conditions{IfMatch: "abc", IfNoneMatch: "x"}, ErrNoSuchKey, nil},
		{"one fails", Conditions{IfMatch: "abc", IfNoneMatch: "abc"}, ErrNoSuchKey, ErrPreconditionFailed},
		{"size", Conditions{IfMatchSize: &size}, ErrNoSuchKey, nil},
		{"other size", Conditions{IfMatchSize: &other}, ErrNoSuchKey, ErrPreconditionFailed},
		{"time, whole seconds", Conditions{IfMatchModTime: when.Truncate(time.Second)}, ErrNoSuchKey, nil},
		{"other time", Conditions{IfMatchModTime: when.Add(time.Second)}, ErrNoSuchKey, ErrPreconditionFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.cond.CheckWrite(nil); !errors.Is(err, tt.absent) {
				t.Errorf("CheckWrite(nil) = %v, want %v", err, tt.absent)
			}
			if err := tt.cond.CheckWrite(cur); !errors.Is(err, tt.present) {
				t.Errorf("CheckWrite(object) = %v, want %v", err, tt.present)
			}
			if zero := tt.cond == (Conditions{}); tt.cond.IsZero() != zero {
				t.Errorf("IsZero() = %t", !zero)
			}
		})
	}
}

func TestConditions_CheckRead(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	before, same, after := when.Add(-time.Hour), when.Truncate(time.Second), when.Add(time.Hour)
	cur := &Info{ETag: "abc", ModTime: when}
	tests := []struct {
		name string
		cond Conditions
		want error
	}{
		{"zero", Conditions{}, nil},
		{"if-match", Conditions{IfMatch: `"abc"`}, nil},
		{"if-match other", Conditions{IfMatch: `"x"`}, ErrPreconditionFailed},
		{"if-none-match", Conditions{IfNoneMatch: `"abc"`}, ErrNotModified},
		{"if-none-match any", Conditions{IfNoneMatch: "*"}, ErrNotModified},
		{"if-none-match other", Conditions{IfNoneMatch: `"x"`}, nil},
		{"modified since before", Conditions{IfModifiedSince: before}, nil},
		{"modified since that second", Conditions{IfModifiedSince: same}, ErrNotModified},
		{"modified since after", Conditions{IfModifiedSince: after}, ErrNotModified},
		{"unmodified since before", Conditions{IfUnmodifiedSince: before}, ErrPreconditionFailed},
		{"unmodified since that second", Conditions{IfUnmodifiedSince: same}, nil},
		{"unmodified since after", Conditions{IfUnmodifiedSince: after}, nil},
		{"if-match outweighs unmodified", Conditions{IfMatch: "abc", IfUnmodifiedSince: before}, nil},
		{"if-none-match outweighs modified", Conditions{IfNoneMatch: "x", IfModifiedSince: after}, nil},
		{"if-match fails before if-none-match", Conditions{IfMatch: "x", IfNoneMatch: "abc"}, ErrPreconditionFailed},
		{"if-match holds, if-none-match fails", Conditions{IfMatch: "abc", IfNoneMatch: "abc"}, ErrNotModified},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.cond.CheckRead(cur); !errors.Is(err, tt.want) {
				t.Errorf("CheckRead = %v, want %v", err, tt.want)
			}
		})
	}
}
