package admin

import (
	"context"
	"strings"

	"herald/auth"
)

var userCommands = []command{
	{"user create", "make a user with a key", []string{"uid", "tenant", "display-name", "email", "access-key", "secret-key", "secret", "admin", "system", "account-id", "account-root"}, (*Admin).userCreate},
	{"user modify", "change a user, or bring it and its buckets to an account", []string{"uid", "tenant", "display-name", "email", "account-id", "account-root"}, (*Admin).userModify},
	{"user info", "show a user", []string{"uid", "tenant", "access-key"}, (*Admin).userInfo},
	{"user rm", "remove a user and its keys", []string{"uid", "tenant", "purge-data"}, (*Admin).userRm},
	{"user list", "the ids of all users", nil, (*Admin).userList},
	{"user suspend", "refuse the user's requests", []string{"uid", "tenant"}, (*Admin).userSuspend},
	{"user enable", "accept them again", []string{"uid", "tenant"}, (*Admin).userEnable},
	{"key create", "add a key to a user", []string{"uid", "tenant", "access-key", "secret-key", "secret"}, (*Admin).keyCreate},
	{"key rm", "remove a key", []string{"uid", "tenant", "access-key"}, (*Admin).keyRm},
}

// user returns the full user id that --uid and --tenant name.
func (c *call) user() (string, error) {
	switch {
	case c.uid == "":
		return "", invalid("no --uid given")
	case strings.Contains(c.uid, "$") || c.tenant == "":
		return c.uid, nil
	}
	return c.tenant + "$" + c.uid, nil
}

func (a *Admin) userCreate(ctx context.Context, c *call) error {
	if c.uid == "" {
		return invalid("no --uid given")
	}
	tenant, id := c.tenant, c.uid
	if t, u, ok := strings.Cut(c.uid, "$"); ok {
		tenant, id = t, u
	}
	if !auth.ValidUserID(id) || (tenant != "" && !auth.ValidUserID(tenant)) {
		return invalid("bad --uid or --tenant: letters, digits and -_.@ are allowed")
	}
	key, err := auth.NewKey(c.accessKey, c.secretKey)
	if err != nil {
		return invalid("%v", err)
	}
	u := &auth.User{
		ID: id, Tenant: tenant, DisplayName: c.displayName, Email: c.email,
		Admin: c.admin, System: c.system, Keys: []auth.Key{key},
	}
	if u.DisplayName == "" {
		u.DisplayName = id
	}
	if err := a.enter(ctx, c, u); err != nil {
		return err
	}
	if err := a.Users.Create(ctx, u); err != nil {
		return err
	}
	return c.print(userJSON(u))
}

func (a *Admin) userInfo(ctx context.Context, c *call) error {
	u, err := a.lookup(ctx, c)
	if err != nil {
		return err
	}
	return c.print(userJSON(u))
}

func (a *Admin) lookup(ctx context.Context, c *call) (*auth.User, error) {
	if c.uid == "" && c.accessKey != "" {
		u, _, err := a.Users.ByAccessKey(ctx, c.accessKey)
		return u, err
	}
	uid, err := c.user()
	if err != nil {
		return nil, err
	}
	return a.Users.Get(ctx, uid)
}

func (a *Admin) userRm(ctx context.Context, c *call) error {
	uid, err := c.user()
	if err != nil {
		return err
	}
	if c.purge {
		if _, err := a.Users.Get(ctx, uid); err != nil {
			return err
		}
		if err := a.purgeUser(ctx, uid); err != nil {
			return err
		}
	}
	return a.Users.Delete(ctx, uid)
}

func (a *Admin) userList(ctx context.Context, c *call) error {
	users, err := a.Users.List(ctx)
	if err != nil {
		return err
	}
	return c.print(append([]string{}, users...))
}

func (a *Admin) userSuspend(ctx context.Context, c *call) error { return a.suspend(ctx, c, true) }

func (a *Admin) userEnable(ctx context.Context, c *call) error { return a.suspend(ctx, c, false) }

func (a *Admin) suspend(ctx context.Context, c *call, suspended bool) error {
	uid, err := c.user()
	if err != nil {
		return err
	}
	u, err := a.Users.Update(ctx, uid, func(u *auth.User) error {
		u.Suspended = suspended
		return nil
	})
	if err != nil {
		return err
	}
	return c.print(userJSON(u))
}

func (a *Admin) keyCreate(ctx context.Context, c *call) error {
	uid, err := c.user()
	if err != nil {
		return err
	}
	key, err := auth.NewKey(c.accessKey, c.secretKey)
	if err != nil {
		return invalid("%v", err)
	}
	u, err := a.Users.CreateKey(ctx, uid, key)
	if err != nil {
		return err
	}
	return c.print(userJSON(u))
}

func (a *Admin) keyRm(ctx context.Context, c *call) error {
	if c.accessKey == "" {
		return invalid("no --access-key given")
	}
	u, err := a.lookup(ctx, c)
	if err != nil {
		return err
	}
	_, err = a.Users.RemoveKey(ctx, u.UID(), c.accessKey)
	return err
}

// rgwUser is a user as radosgw-admin prints it.
type rgwUser struct {
	UserID      string   `json:"user_id"`
	DisplayName string   `json:"display_name"`
	Email       string   `json:"email"`
	Suspended   int      `json:"suspended"`
	MaxBuckets  int      `json:"max_buckets"`
	Subusers    []string `json:"subusers"`
	Keys        []rgwKey `json:"keys"`
	SwiftKeys   []string `json:"swift_keys"`
	Caps        []string `json:"caps"`
	OpMask      string   `json:"op_mask"`
	System      bool     `json:"system"`
	Admin       bool     `json:"admin"`
	Type        string   `json:"type"`
	AccountID   string   `json:"account_id"`
}

type rgwKey struct {
	User      string `json:"user"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

func userJSON(u *auth.User) rgwUser {
	out := rgwUser{
		UserID: u.UID(), DisplayName: u.DisplayName, Email: u.Email, MaxBuckets: 1000,
		Subusers: []string{}, Keys: []rgwKey{}, SwiftKeys: []string{}, Caps: []string{},
		OpMask: "read, write, delete", System: u.System, Admin: u.Admin, Type: "rgw",
	}
	if u.Suspended {
		out.Suspended = 1
	}
	if u.Account != "" {
		out.AccountID, out.Type = u.Account, "root"
	}
	for _, k := range u.Keys {
		out.Keys = append(out.Keys, rgwKey{User: u.UID(), AccessKey: k.AccessKey, SecretKey: k.SecretKey})
	}
	return out
}
