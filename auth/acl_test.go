package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestACL_Allows(t *testing.T) {
	alice, anonymous := &User{ID: "alice"}, AnonymousUser()
	inTenant := &User{ID: "alice", Tenant: "acme"}
	ofAccount := &User{ID: "dora", Account: "RGW00000000000000001"}
	all := []*User{alice, anonymous, inTenant, ofAccount}
	tests := []struct {
		name  string
		acl   ACL
		perm  Permission
		allow []*User
	}{
		{"none", nil, PermRead, nil},
		{"private", PrivateACL(), PermRead, nil},
		{"everybody", ACL{{AllUsers, PermRead}}, PermRead, all},
		{"everybody, another permission", ACL{{AllUsers, PermRead}}, PermWrite, nil},
		{"full control", ACL{{AllUsers, PermFullControl}}, PermWriteACP, all},
		{"known", ACL{{AuthenticatedUsers, PermWrite}}, PermWrite, []*User{alice, inTenant, ofAccount}},
		{"user", ACL{{AllUsers, PermRead}, {"alice", PermReadACP}}, PermReadACP, []*User{alice}},
		{"tenant's user", ACL{{"acme$alice", PermRead}}, PermRead, []*User{inTenant}},
		{"account", ACL{{"RGW00000000000000001", PermRead}}, PermRead, []*User{ofAccount}},
		{"user of an account", ACL{{"dora", PermRead}}, PermRead, []*User{ofAccount}},
		{"anonymous", ACL{{AnonymousID, PermFullControl}}, PermRead, []*User{anonymous}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, u := range all {
				if got, want := tt.acl.Allows(u, tt.perm), slices.Contains(tt.allow, u); got != want {
					t.Errorf("Allows(%s, %s) = %v, want %v", u.UID(), tt.perm, got, want)
				}
			}
		})
	}
}

func TestACL_Encode(t *testing.T) {
	tests := []struct {
		acl  ACL
		want string
	}{
		{PrivateACL(), ""},
		{ACL{}, "1;"},
		{ACL{{OwnerGrantee, PermRead}}, "1;R:"},
		{ACL{{AllUsers, PermRead}, {AllUsers, PermWrite}, {OwnerGrantee, PermFullControl}}, "1;R:*,W:*,F:"},
		{ACL{{AuthenticatedUsers, PermReadACP}, {"acme$bob", PermWriteACP}}, "1;r:+,w:acme$bob"},
	}
	for _, tt := range tests {
		got := tt.acl.Encode()
		if got != tt.want {
			t.Errorf("Encode(%v) = %q, want %q", tt.acl, got, tt.want)
		}
		back, err := DecodeACL(got)
		if diff := cmp.Diff(tt.acl, back); err != nil || diff != "" {
			t.Errorf("DecodeACL(%q): %v, -want +got:\n%s", got, err, diff)
		}
	}
	for _, bad := range []string{"2;R:*", "R:*", "1;X:*", "1;R", "1;R:*,", "1;:", "1;RW:*"} {
		if a, err := DecodeACL(bad); err == nil {
			t.Errorf("DecodeACL(%q) = %v, want an error", bad, a)
		}
	}
}

func TestCannedACL(t *testing.T) {
	tests := []struct{ name, bucketOwner, want string }{
		{"private", "bob", ""},
		{"public-read", "bob", "1;R:*,F:"},
		{"public-read-write", "bob", "1;R:*,W:*,F:"},
		{"authenticated-read", "bob", "1;R:+,F:"},
		{"bucket-owner-read", "bob", "1;F:,R:bob"},
		{"bucket-owner-full-control", "bob", "1;F:,F:bob"},
		{"bucket-owner-read", "alice", ""},
		{"bucket-owner-full-control", "", ""},
	}
	for _, tt := range tests {
		if a, err := CannedACL(tt.name, "alice", tt.bucketOwner); err != nil || a.Encode() != tt.want {
			t.Errorf("CannedACL(%s, alice, %s) = %q, %v, want %q", tt.name, tt.bucketOwner, a.Encode(), err, tt.want)
		}
	}
	for _, name := range []string{"", "log-delivery-write", "aws-exec-read", "Private"} {
		if _, err := CannedACL(name, "alice", "bob"); !errors.Is(err, &Error{Code: CodeInvalidArgument}) {
			t.Errorf("CannedACL(%q) = %v, want InvalidArgument", name, err)
		}
	}
}

func TestParseGrants(t *testing.T) {
	id := func(names ...string) (out []GrantRequest) {
		for _, n := range names {
			out = append(out, GrantRequest{GranteeID, n, PermRead})
		}
		return out
	}
	tests := []struct {
		value string
		want  []GrantRequest
	}{
		{"id=bob", id("bob")},
		{`id="bob"`, id("bob")},
		{`ID="bob", id=acme$carol ,id="a,b" , id=d`, id("bob", "acme$carol", "a,b", "d")},
		{"uri=" + AllUsers + `,emailAddress="bob@example.com"`, []GrantRequest{{GranteeGroup, AllUsers, PermRead}, {GranteeEmail, "bob@example.com", PermRead}}},
	}
	for _, tt := range tests {
		got, err := ParseGrants(tt.value, PermRead)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("ParseGrants(%s): %v, -want +got:\n%s", tt.value, err, diff)
		}
	}
	for _, bad := range []string{"", "bob", "id", "id=", `id=""`, `id="bob`, `id="bob"x`, "id=bob,", `id="bob",`, "name=bob", "id=bob,,id=carol", ",id=bob"} {
		if got, err := ParseGrants(bad, PermRead); !errors.Is(err, &Error{Code: CodeInvalidArgument}) {
			t.Errorf("ParseGrants(%q) = %v, %v, want InvalidArgument", bad, got, err)
		}
	}
	if _, err := ParseGrants("id=a"+strings.Repeat(",id=a", MaxGrants), PermRead); !errors.Is(err, &Error{Code: CodeLimitExceeded}) {
		t.Errorf("ParseGrants of too many = %v, want LimitExceeded", err)
	}
}

func TestResolveGrants(t *testing.T) {
	ctx := context.Background()
	users := NewUsers(newRecords())
	acc := &Account{ID: "RGW00000000000000007", Name: "acme", Email: "acme@example.com"}
	if err := users.CreateAccount(ctx, acc); err != nil {
		t.Fatal(err)
	}
	for _, u := range []*User{
		{ID: "alice"}, {ID: "bob", Email: "Bob@Example.com"}, {ID: "eve", Email: "twice@example.com"}, {ID: "eva", Email: "twice@example.com"},
		{ID: "root", Account: acc.ID, Email: "acme@example.com"},
	} {
		if err := users.Create(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		request GrantRequest
		want    string // grantee
		code    string
	}{
		{GrantRequest{GranteeID, "bob", PermRead}, "bob", ""},
		{GrantRequest{GranteeID, "alice", PermRead}, OwnerGrantee, ""},
		{GrantRequest{GranteeID, acc.ID, PermRead}, acc.ID, ""},
		{GrantRequest{GranteeID, AnonymousID, PermRead}, AnonymousID, ""},
		{GrantRequest{GranteeID, "nobody", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeID, "", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeID, "a,b:*", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeID, AllUsers, PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeID, "*", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeID, "RGW00000000000000008", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeGroup, AllUsers, PermRead}, AllUsers, ""},
		{GrantRequest{GranteeGroup, AuthenticatedUsers, PermRead}, AuthenticatedUsers, ""},
		{GrantRequest{GranteeGroup, "http://acs.amazonaws.com/groups/s3/LogDelivery", PermRead}, "", CodeInvalidArgument},
		{GrantRequest{GranteeEmail, "bob@example.com", PermRead}, "bob", ""},
		{GrantRequest{GranteeEmail, "acme@example.com", PermRead}, acc.ID, ""},
		{GrantRequest{GranteeEmail, "nobody@example.com", PermRead}, "", CodeUnresolvableEmail},
		{GrantRequest{GranteeEmail, "twice@example.com", PermRead}, "", CodeAmbiguousEmail},
		{GrantRequest{GranteeEmail, "", PermRead}, "", CodeUnresolvableEmail},
	}
	for _, tt := range tests {
		a, err := users.ResolveGrants(ctx, "alice", []GrantRequest{tt.request})
		if tt.code != "" {
			if !errors.Is(err, &Error{Code: tt.code}) {
				t.Errorf("ResolveGrants(%v) = %v, %v, want %s", tt.request, a, err, tt.code)
			}
		} else if diff := cmp.Diff(ACL{{tt.want, PermRead}}, a); err != nil || diff != "" {
			t.Errorf("ResolveGrants(%v): %v, -want +got:\n%s", tt.request, err, diff)
		}
	}
	many := make([]GrantRequest, MaxGrants+1)
	if _, err := users.ResolveGrants(ctx, "alice", many); !errors.Is(err, &Error{Code: CodeLimitExceeded}) {
		t.Errorf("ResolveGrants of too many = %v, want LimitExceeded", err)
	}
}

func TestCreateUser_Anonymous(t *testing.T) {
	if err := NewUsers(newRecords()).Create(context.Background(), &User{ID: AnonymousID}); !errors.Is(err, ErrInvalidID) {
		t.Errorf("Create(anonymous) = %v, want ErrInvalidID", err)
	}
}

func FuzzParseGrants(f *testing.F) {
	for _, s := range []string{"id=bob", `id="bob", uri="` + AllUsers + `"`, "emailAddress=a@b,ID=c", `id="`, ",", "=", `id="a",`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseGrants(s, PermWrite)
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Fatalf("ParseGrants(%q): %v is no *Error", s, err)
			}
			return
		}
		if len(got) == 0 || len(got) > MaxGrants {
			t.Fatalf("ParseGrants(%q): %d grants", s, len(got))
		}
		for _, g := range got {
			if g.Name == "" || g.Permission != PermWrite {
				t.Fatalf("ParseGrants(%q) = %+v", s, got)
			}
		}
	})
}

func FuzzDecodeACL(f *testing.F) {
	for _, s := range []string{"", "1;", "1;R:*,W:+,F:,r:bob,w:acme$x", "1;R:,", "2;", "1;R:R:*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := DecodeACL(s)
		if err != nil {
			return
		}
		back, err := DecodeACL(a.Encode())
		if diff := cmp.Diff(a, back); err != nil || diff != "" {
			t.Fatalf("DecodeACL(%q), encoded and decoded: %v, -want +got:\n%s", s, err, diff)
		}
	})
}
