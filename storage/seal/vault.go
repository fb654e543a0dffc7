package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a Vault reports.
var (
	// ErrWrongCode: the code is well formed and opens nothing here. Nothing changed.
	ErrWrongCode = errors.New("recovery code does not open this node's keys")
	// ErrTooSoon: too many codes were tried; the error's text tells how long to wait.
	ErrTooSoon = errors.New("too many recovery codes tried")
	// ErrSealed: no provider gave the root key; the node waits for an operator.
	ErrSealed = errors.New("sealed: waiting for unseal")
	// ErrNotNew: Init on a node that has keys already.
	ErrNotNew = errors.New("node has keys already")
	// ErrNoKeys: an unseal on a node that was never started.
	ErrNoKeys = errors.New("node has no keys yet")
)

// State of a Vault.
type State string

// A vault is New until Init, Sealed while the root key is not in memory, Unsealed from then on.
const (
	New      State = "new"
	Sealed   State = "sealed"
	Unsealed State = "unsealed"
)

// A node looks at five codes at once and one more every 12 seconds after that. 160 bits need no such limit; a
// passphrase in its place some day will, and it keeps Argon2 from being used to load the machine.
const (
	codeBurst = 5
	codeEvery = 12 * time.Second
)

// Config says how a vault is opened without an operator.
type Config struct {
	// Providers are asked in this order; none means DefaultProviders.
	Providers []Provider
	// Loopback tells that every listener of the node is on loopback; a file provider is refused otherwise.
	Loopback bool
	// Log gets warnings without secrets; nil is silent.
	Log *slog.Logger
}

// Validate tells what in the configuration cannot be used, as a message for the operator.
func (c Config) Validate() error {
	for _, p := range c.Providers {
		if err := p.validate(); err != nil {
			return err
		}
		if p.Kind == KindFile && !c.Loopback {
			return fmt.Errorf("unseal provider file %s is refused while a listener is not on loopback: "+
				"whoever reads the disk could read the mail", p.Path)
		}
	}
	return nil
}

// Vault is what a node's disk knows of its root key, and the root key itself once something opened it. Safe for
// concurrent use; one attempt to unseal runs at a time.
//
// DIR/keys holds recovery.json (the root key wrapped under the recovery code, and what it carries over from earlier ones) and one
// provider-ID.json for each exec or file key: the root key wrapped under that key, ID following from the key. So
// a provider may be lost, and the recovery code still opens the node; a provider may be added later, and EnrolMissing
// enrols it while the node is unsealed; and no file opens anything by itself.
type Vault struct {
	dir string // DIR/keys
	cfg Config

	// One of Init, AutoUnseal, Unseal, Close runs at a time; a provider may take its time, and State does not wait.
	op    sync.Mutex
	limit limiter // under op

	mu       sync.Mutex    // guards what follows; changed only while op is held too
	store    []byte        // identity; nil while new
	root     *Root         // nil while new or sealed
	enrolled []bool        // by provider: a slot of the present root key is known to be there
	unsealed chan struct{} // closed while root is set
}

// OpenVault looks at DIR/keys, which need not exist. It opens nothing yet: see Init, AutoUnseal and Unseal.
func OpenVault(dir string, cfg Config) (*Vault, error) {
	if len(cfg.Providers) == 0 {
		cfg.Providers = DefaultProviders()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	v := &Vault{dir: filepath.Join(dir, "keys"), cfg: cfg, unsealed: make(chan struct{})}
	if err := undoRotation(v.dir); err != nil {
		return nil, fmt.Errorf("open keys: undo a rotation: %w", err)
	}
	v.setEnrolled(nil, false)
	names, err := filepath.Glob(filepath.Join(v.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	for _, name := range names {
		s, err := readSlot(name)
		if err != nil {
			return nil, fmt.Errorf("open keys: %w", err)
		}
		if v.store != nil && !bytes.Equal(v.store, s.Store) {
			return nil, fmt.Errorf("open keys: %w: %s belongs to another store", ErrDamaged, name)
		}
		v.store = s.Store
	}
	for _, p := range cfg.Providers {
		if p.Kind == KindFile {
			cfg.Log.Warn("A KEY FILE UNSEALS THIS NODE: whoever reads the disk can read the mail; for tests only",
				"path", p.Path, "open_to_others", openToOthers(p.Path))
		}
	}
	return v, nil
}

// State tells where the vault stands.
func (v *Vault) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.root != nil:
		return Unsealed
	case v.store != nil:
		return Sealed
	}
	return New
}

// Unsealed returns a channel that is closed once the root key is in memory.
func (v *Vault) Unsealed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.unsealed
}

// Root returns the root key, nil unless the vault is unsealed. It stays the vault's: only Close closes it.
func (v *Vault) Root() *Root {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.root
}

// Identity names the store in 32 hex digits, "" while new. It is no secret.
func (v *Vault) Identity() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return hex.EncodeToString(v.store)
}

// Init is the first start of a node: it draws the root key, wraps it under a fresh recovery code and under the key of
// every exec and file provider that answers, and unseals. The code is returned once and is nowhere on disk: show it
// to the operator before anything is accepted. After a crash in Init the node is either still new or complete.
//
// A provider that answers with something that is no key is a *ProviderError, and nothing is made: who starts a node
// with such a file would meet a sealed one at the next boot.
func (v *Vault) Init(ctx context.Context) (code string, err error) {
	v.op.Lock()
	defer v.op.Unlock()
	if v.store != nil {
		return "", ErrNotNew
	}
	secrets, err := v.secrets(ctx)
	defer wipe(secrets)
	if err != nil {
		return "", err
	}
	store, key, raw := make([]byte, storeIDSize), make([]byte, KeySize), newCode()
	rand.Read(store)
	rand.Read(key)
	defer clear(key)
	defer clear(raw[:])
	root, err := RootFrom(bytes.Clone(key))
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	if err := v.createDir(secrets, store, key, root, raw); err != nil {
		return "", fmt.Errorf("create keys: %w", err)
	}
	v.open(root, key, store)
	v.setEnrolled(secrets, false)
	return codeText(raw), nil
}

// createDir writes the key files into a new directory and puts it in place whole.
func (v *Vault) createDir(secrets [][]byte, store, key []byte, root *Root, code [codeSize]byte) error {
	fresh, err := v.writeDir(secrets, store, key, root, code)
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, v.dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(v.dir))
}

// writeDir writes the files of a root key, which key is, into a new directory and returns its name.
func (v *Vault) writeDir(secrets [][]byte, store, key []byte, root *Root, code [codeSize]byte) (fresh string, err error) {
	if fresh, err = v.freshDir(); err != nil {
		return "", err
	}
	s := &slot{Store: store, Opener: openerCode, KDF: newArgon()}
	if root.heritage != nil {
		s.Root, s.Heritage = root.heritage.version, root.sealHeritage(root.heritage, store)
	}
	if err := writeSlot(fresh, recoveryFile, s.wrap(s.KDF.key(code), key, root.check())); err != nil {
		return "", err
	}
	return fresh, enrol(fresh, secrets, key, s)
}

// freshDir makes the empty directory in which key files are written before they are put in place.
func (v *Vault) freshDir() (string, error) {
	fresh := v.dir + freshSuffix
	if err := os.RemoveAll(fresh); err != nil { // left by a crash before the rename: nobody saw its code
		return "", err
	}
	return fresh, os.MkdirAll(fresh, 0o700)
}

// secretsWait bounds how long the exec and file providers are asked, all at the same time: a little more than any may take.
const secretsWait = execTimeout + 5*time.Second

// secrets asks the exec and file providers for their keys, the caller's to wipe: keys has one place for each provider, nil
// where there is none. A provider that does not answer is logged and left for EnrolMissing; the recovery code makes up for it.
// One whose answer is no key is the error, a *ProviderError; the keys of the others are returned all the same.
func (v *Vault) secrets(ctx context.Context) (keys [][]byte, err error) {
	keys, errs := v.askKeys(ctx, func(int) bool { return true })
	for i, keyErr := range errs {
		switch {
		case keyErr == nil:
		case errors.Is(keyErr, errKeyForm) || errors.Is(keyErr, errFileForm):
			if err == nil {
				err = &ProviderError{i, keyErr}
			}
		default:
			v.cfg.Log.Warn("unseal provider not enrolled", "provider", v.cfg.Providers[i].Kind, "error", keyErr.Error())
		}
	}
	return keys, err
}

// askKeys asks those of the exec and file providers that pick names by their index, all at the same time.
func (v *Vault) askKeys(ctx context.Context, pick func(i int) bool) (keys [][]byte, errs []error) {
	ctx, cancel := context.WithTimeout(ctx, secretsWait)
	defer cancel()
	keys, errs = make([][]byte, len(v.cfg.Providers)), make([]error, len(v.cfg.Providers))
	var asked sync.WaitGroup
	for i, p := range v.cfg.Providers {
		if p.holdsKey() && pick(i) {
			asked.Go(func() { keys[i], errs[i] = p.key(ctx) })
		}
	}
	asked.Wait()
	return keys, errs
}

// Unenrolled tells whether the vault is unsealed and an exec or file provider is not known to open this root key at the next
// start: see EnrolMissing.
func (v *Vault) Unenrolled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.root != nil && slices.ContainsFunc(v.missing(), func(lacks bool) bool { return lacks })
}

// missing tells of each provider whether it is to be enrolled. The caller holds mu.
func (v *Vault) missing() []bool {
	lacks := make([]bool, len(v.cfg.Providers))
	for i, p := range v.cfg.Providers {
		lacks[i] = p.holdsKey() && !v.enrolled[i]
	}
	return lacks
}

// setEnrolled notes which providers have a slot of the present root key: those that gave a secret, and where others is set
// those of before. The caller holds op.
func (v *Vault) setEnrolled(secrets [][]byte, others bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !others || v.enrolled == nil {
		v.enrolled = make([]bool, len(v.cfg.Providers))
	}
	for i, secret := range secrets {
		v.enrolled[i] = v.enrolled[i] || secret != nil
	}
}

// EnrolMissing asks the exec and file providers that are not known to have a slot of the present root key, up to 35 s, and
// writes the slots that lack, so that a provider that did not answer at a rotation or an unseal opens the node at its next
// start. The error tells why one still has none; it is to be tried again. nil on a sealed vault.
func (v *Vault) EnrolMissing(ctx context.Context) error {
	v.mu.Lock()
	lacks, sealed := v.missing(), v.root == nil
	v.mu.Unlock()
	if sealed {
		return nil
	}
	secrets, errs := v.askKeys(ctx, func(i int) bool { return lacks[i] }) // not under op: a provider may take its time
	defer wipe(secrets)
	v.op.Lock()
	defer v.op.Unlock()
	if v.root == nil {
		return nil
	}
	like, err := v.anySlot()
	if err == nil {
		key := v.root.copyKey() // the present one, which may be another than at the question
		defer clear(key)
		if !v.root.isCheck(like.Check) {
			return fmt.Errorf("enrol unseal providers: %w: key files are of another root key", ErrDamaged)
		}
		if err = enrol(v.dir, secrets, key, like); err == nil {
			v.setEnrolled(secrets, true)
		}
	}
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("enrol unseal providers: %w", err)
	}
	return nil
}

func wipe(keys [][]byte) {
	for _, k := range keys {
		clear(k)
	}
}

// enrol writes a slot for every secret that has none in dir; a nil one is passed over. key is the root key that like, another slot, holds.
func enrol(dir string, secrets [][]byte, key []byte, like *slot) error {
	for _, secret := range secrets {
		if secret == nil {
			continue
		}
		name, kek := providerKeys(secret)
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		s := &slot{Store: like.Store, Opener: openerProvider, Root: like.Root}
		if err := writeSlot(dir, name, s.wrap(kek, key, like.Check)); err != nil {
			return err
		}
	}
	return nil
}

// AutoUnseal asks the providers in their order and unseals with the first key that opens. It returns the provider's
// kind, or ErrSealed when an operator must come; why each provider failed is in the log.
func (v *Vault) AutoUnseal(ctx context.Context) (by string, err error) {
	v.op.Lock()
	defer v.op.Unlock()
	switch {
	case v.store == nil:
		return "", ErrNoKeys
	case v.root != nil:
		return "", nil
	}
	for i, p := range v.cfg.Providers {
		if p.Kind == KindPeer || p.Kind == KindRecovery {
			continue
		}
		key, s, err := v.ask(ctx, p)
		if err == nil {
			err = v.accept(key, s)
		}
		if err == nil {
			v.mu.Lock()
			v.enrolled[i] = true
			v.mu.Unlock()
			return p.Kind, nil
		}
		v.cfg.Log.Info("unseal provider did not open the keys", "provider", p.Kind, "error", err.Error())
	}
	return "", ErrSealed
}

// ask returns the root key as provider p gives it, and the slot whose check value it must match.
func (v *Vault) ask(ctx context.Context, p Provider) (key []byte, s *slot, err error) {
	if p.Kind == KindKeyring {
		s, err := v.anySlot()
		if err != nil {
			return nil, nil, err
		}
		key, err = keyringGet(v.keyringName())
		return key, s, err
	}
	secret, err := p.key(ctx)
	if err != nil {
		return nil, nil, err
	}
	name, kek := providerKeys(secret)
	clear(secret)
	s, err = readSlot(filepath.Join(v.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, errors.New("its key is not enrolled here: unseal once by other means")
	}
	if err != nil {
		return nil, nil, err
	}
	key, err = s.unwrap(kek)
	return key, s, err
}

// anySlot returns some slot, for its check value: all are of the same root.
func (v *Vault) anySlot() (*slot, error) {
	names, err := filepath.Glob(filepath.Join(v.dir, "*.json"))
	if err != nil || len(names) == 0 {
		return nil, ErrNoKeys
	}
	return readSlot(names[0])
}

// accept unseals with key, which is wiped, if it is the root key that s holds.
func (v *Vault) accept(key []byte, s *slot) error {
	defer clear(key)
	root, err := RootFrom(bytes.Clone(key))
	if err != nil {
		return err
	}
	if !root.isCheck(s.Check) {
		root.Close()
		return errors.New("it holds another key")
	}
	if err := v.takeHeritage(root, s); err != nil {
		root.Close()
		return err
	}
	v.open(root, key, v.store)
	return nil
}

// open makes root the vault's and leaves a copy in the kernel keyring where that is a provider.
func (v *Vault) open(root *Root, key, store []byte) {
	v.mu.Lock()
	v.root, v.store = root, store
	close(v.unsealed)
	v.mu.Unlock()
	if root.Protection() == "none" {
		v.cfg.Log.Warn("the root key's memory could not be locked: it may reach the swap")
	}
	v.keepWarm(key)
}

// keepWarm leaves a copy of the root key in the kernel keyring where that is a provider.
func (v *Vault) keepWarm(key []byte) {
	for _, p := range v.cfg.Providers {
		if p.Kind == KindKeyring {
			if err := keyringPut(v.keyringName(), key); err != nil {
				v.cfg.Log.Info("no warm restart: the root key is not in the kernel keyring", "error", err.Error())
			}
		}
	}
}

// Unseal opens the vault with the recovery code as an operator typed it; now is product time, for the rate limit. A
// mistyped code (ErrTypo) costs no attempt and tells which group. A wrong one (ErrWrongCode) changes nothing on disk.
// On an unsealed vault it only checks the code, so that an operator can make sure of a copy.
func (v *Vault) Unseal(ctx context.Context, now time.Time, text string) error {
	code, err := parseCode(text)
	if err != nil {
		return err
	}
	defer clear(code[:])
	v.op.Lock()
	defer v.op.Unlock()
	if v.store == nil {
		return ErrNoKeys
	}
	if wait := v.limit.take(now); wait > 0 {
		return fmt.Errorf("%w: try again in %s", ErrTooSoon, wait.Round(time.Second))
	}
	s, err := readSlot(filepath.Join(v.dir, recoveryFile))
	if err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	key, err := s.unwrap(s.KDF.key(code))
	if err != nil {
		return ErrWrongCode
	}
	defer clear(key)
	v.limit = limiter{}
	if v.root != nil {
		return nil
	}
	v.enrolMore(ctx, key, s) // the node can serve all the same; only its next start may need the code again
	return v.accept(bytes.Clone(key), s)
}

// Close wipes the root key from memory. The kernel keyring keeps its copy for a warm restart: see ForgetWarm.
func (v *Vault) Close() error {
	v.op.Lock()
	defer v.op.Unlock()
	if v.root == nil {
		return nil
	}
	root := v.root
	v.mu.Lock()
	v.root, v.unsealed = nil, make(chan struct{})
	clear(v.enrolled)
	v.mu.Unlock()
	return root.Close()
}

// ForgetWarm removes the root key from the kernel keyring: the next start needs another provider or the code.
func (v *Vault) ForgetWarm() error {
	v.op.Lock()
	defer v.op.Unlock()
	return keyringDrop(v.keyringName())
}

func (v *Vault) keyringName() string {
	return strings.Join([]string{"ekiden", "root", hex.EncodeToString(v.store)}, ":")
}

// limiter is a token bucket over product time. The zero value is full.
type limiter struct {
	used time.Duration // codeEvery per attempt not yet paid back
	last time.Time
}

// take spends an attempt and returns 0, or how long to wait until there is one. A clock that was set back pays nothing.
func (l *limiter) take(now time.Time) (wait time.Duration) {
	if passed := now.Sub(l.last); passed > 0 && !l.last.IsZero() {
		l.used = max(0, l.used-passed)
	}
	l.last = now
	if over := l.used + codeEvery - codeBurst*codeEvery; over > 0 {
		return over
	}
	l.used += codeEvery
	return 0
}
