package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Permission is what a grant of an access control list gives: one of the five
// below.
type Permission uint8

// The permissions. PermFullControl is all of the others.
const (
	PermRead Permission = 1 << iota
	PermWrite
	PermReadACP
	PermWriteACP
	PermFullControl = PermRead | PermWrite | PermReadACP | PermWriteACP
)

// permissions are the names of permissions, in the order in which S3 has their
// headers, and the letters that stand for them where an ACL is stored. It is
// never written.
var permissions = [...]struct {
	perm         Permission
	name, letter string
}{
	{PermRead, "READ", "R"},
	{PermWrite, "WRITE", "W"},
	{PermReadACP, "READ_ACP", "r"},
	{PermWriteACP, "WRITE_ACP", "w"},
	{PermFullControl, "FULL_CONTROL", "F"},
}

// String returns S3's name of a permission.
func (p Permission) String() string {
	for i := range permissions {
		if permissions[i].perm == p {
			return permissions[i].name
		}
	}
	return fmt.Sprintf("Permission(%d)", uint8(p))
}

// ParsePermission is the inverse of String.
func ParsePermission(name string) (p Permission, ok bool) {
	for i := range permissions {
		if permissions[i].name == name {
			return permissions[i].perm, true
		}
	}
	return 0, false
}

// The groups that ACLs can name.
const (
	AllUsers           = "http://acs.amazonaws.com/groups/global/AllUsers"
	AuthenticatedUsers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
)

// MaxGrants is how many grants an ACL may have (S3).
const MaxGrants = 100

// Grant is one line of an ACL.
type Grant struct {
	// Grantee is the id of a user or an account, AllUsers or
	// AuthenticatedUsers. OwnerGrantee is whoever owns what the ACL is of.
	Grantee    string
	Permission Permission
}

// OwnerGrantee stands for the owner in a Grant.
const OwnerGrantee = ""

// ACL is the access control list of a bucket or an object, without its owner,
// who may do everything whatever it says.
type ACL []Grant

// PrivateACL is the ACL of what was given none.
func PrivateACL() ACL { return ACL{{OwnerGrantee, PermFullControl}} }

// Allows tells whether a grant gives somebody a permission. It does not ask
// whether that is the owner.
func (a ACL) Allows(u *User, p Permission) bool {
	for i := range a {
		g := &a[i]
		if p == 0 || g.Permission&p != p {
			continue
		}
		switch g.Grantee {
		case OwnerGrantee:
		case AllUsers:
			return true
		case AuthenticatedUsers:
			if !u.Anonymous() {
				return true
			}
		default:
			if u.Owns(g.Grantee) {
				return true
			}
		}
	}
	return false
}

// aclVersion begins a stored ACL.
const aclVersion = "1;"

// Encode returns the form in which an ACL is stored, "" for a private one:
// "1;F:,R:*,W:alice". '*' is AllUsers, '+' AuthenticatedUsers.
func (a ACL) Encode() string {
	if len(a) == 1 && a[0] == (Grant{OwnerGrantee, PermFullControl}) {
		return ""
	}
	var b strings.Builder
	b.WriteString(aclVersion)
	for i, g := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		for _, p := range permissions {
			if p.perm == g.Permission {
				b.WriteString(p.letter)
			}
		}
		b.WriteByte(':')
		switch g.Grantee {
		case AllUsers:
			b.WriteByte('*')
		case AuthenticatedUsers:
			b.WriteByte('+')
		default:
			b.WriteString(g.Grantee)
		}
	}
	return b.String()
}

var errStoredACL = errors.New("auth: the stored ACL cannot be read")

// DecodeACL is the inverse of Encode. It fails for what Encode does not write:
// nobody but the owner is allowed anything then.
func DecodeACL(s string) (ACL, error) {
	if s == "" {
		return PrivateACL(), nil
	}
	list, ok := strings.CutPrefix(s, aclVersion)
	if !ok {
		return nil, errStoredACL
	}
	a := ACL{}
	if list == "" {
		return a, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		letter, who, ok := strings.Cut(part, ":")
		p := permissionOf(letter)
		if !ok || p == 0 {
			return nil, errStoredACL
		}
		switch who {
		case "*":
			who = AllUsers
		case "+":
			who = AuthenticatedUsers
		}
		a = append(a, Grant{who, p})
	}
	return a, nil
}

func permissionOf(letter string) Permission {
	for i := range permissions {
		if permissions[i].letter == letter {
			return permissions[i].perm
		}
	}
	return 0
}

// CannedACL returns the ACL that S3 has a name for. bucketOwner matters for
// objects: for a bucket it is the owner. Like RGW it knows no
// "log-delivery-write" and no "aws-exec-read". Errors: *Error, InvalidArgument.
func CannedACL(name, owner, bucketOwner string) (ACL, error) {
	a := PrivateACL()
	group := func(uri string, perms ...Permission) {
		for i, p := range perms {
			a = slices.Insert(a, i, Grant{uri, p})
		}
	}
	bucketOwners := func(p Permission) {
		if bucketOwner != "" && bucketOwner != owner {
			a = append(a, Grant{bucketOwner, p})
		}
	}
	switch name {
	case "private":
	case "public-read":
		group(AllUsers, PermRead)
	case "public-read-write":
		group(AllUsers, PermRead, PermWrite)
	case "authenticated-read":
		group(AuthenticatedUsers, PermRead)
	case "bucket-owner-read":
		bucketOwners(PermRead)
	case "bucket-owner-full-control":
		bucketOwners(PermFullControl)
	default:
		return nil, refuse(CodeInvalidArgument, "this canned ACL is not supported",
			Detail{"ArgumentName", "x-amz-acl"}, Detail{"ArgumentValue", name})
	}
	return a, nil
}
