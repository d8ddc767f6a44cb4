package playground

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// market is what happens in one currency.
type market struct {
	currency string
	// unit is about the price of a coffee, in minor units.
	unit     int64
	people   []string
	shops    []string
	employer string
	landlord string
}

var markets = []market{
	{
		currency: "EUR", unit: 300, employer: "Rheinwerk GmbH", landlord: "Wohnbau Köln eG",
		people: []string{
			"Ada Lovelace", "Konrad Zuse", "Émilie du Châtelet", "Alan Turing", "Sofja Kowalewskaja", "Leonhard Euler", "Emmy Noether",
			"Blaise Pascal", "Gottfried Leibniz", "Hedy Lamarr", "Carl Friedrich Gauß", "Maria Agnesi", "Évariste Galois", "Grete Hermann",
		},
		shops: []string{"Café Müller", "Bäckerei Sauer", "Boulangerie de l'Étoile", "Buchhandlung am Dom", "Fahrrad Klein"},
	},
	{
		currency: "USD", unit: 350, employer: "Analytical Engines Inc.", landlord: "Hudson Homes LLC",
		people: []string{"Grace Hopper", "Katherine Johnson", "Claude Shannon", "Barbara Liskov", "Frances Allen", "John von Neumann", "Margaret Hamilton"},
		shops:  []string{"Corner Deli", "Mission Books", "Pacific Hardware"},
	},
	{
		currency: "GBP", unit: 280, employer: "Bletchley Instruments Ltd", landlord: "Fenland Lettings",
		people: []string{"Mary Somerville", "George Boole", "Joan Clarke", "Charles Babbage", "Dorothy Vaughan"},
		shops:  []string{"The Tea Room", "Cam Cycles"},
	},
	{
		currency: "JPY", unit: 400, employer: "株式会社 計算機", landlord: "東京住宅",
		people: []string{"関 孝和", "湯浅 年子", "Takakazu Sato", "Yoko Matsuda"},
		shops:  []string{"喫茶 みどり", "古書 さくら"},
	},
}

var (
	goods      = []string{"lunch", "groceries", "books", "coffee", "train ticket", "flowers", "repair", "dinner"}
	categories = []string{"food", "home", "travel", "leisure"}
	branches   = []string{"Bonn", "Köln", "New York", "Cambridge", "Tokyo"}
)

// day lets one day pass.
func (b *bank) day(day time.Time) {
	b.clock = day.Add(7 * time.Hour)
	number := int(day.Sub(b.start(day)).Hours() / 24)
	if len(b.log) == 0 {
		b.openBank()
		number = 0
	}
	if number%2 == 0 {
		b.openPerson(number / 2)
	}
	if day.Day() == 1 || number == 1 {
		b.payRents(day)
	}
	if day.Day() == 25 || number == 2 {
		b.paySalaries(day)
	}
	b.endHolds(day)
	b.clock = later(b.clock, day.Add(9*time.Hour))
	for range 8 + b.rng.IntN(6) {
		b.clock = b.clock.Add(time.Duration(b.rng.IntN(35)) * time.Minute)
		b.buy(b.people[b.rng.IntN(len(b.people))], day)
	}
	b.rarely(number)
}

// start returns the day of the first event, or the day itself if there is none.
func (b *bank) start(day time.Time) time.Time {
	if len(b.log) == 0 {
		return day
	}
	return b.log[0].RecordedAt.Truncate(24 * time.Hour)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (b *bank) open(owner, currency string, limit, deposit int64, labels map[string]string) (uuid.UUID, money.Currency) {
	c, err := money.ParseCurrency(currency)
	if err != nil {
		b.err = err
		return uuid.Nil, c
	}
	command := account.Open{Owner: owner, Currency: c, Metadata: account.NewMetadata(labels)}
	if limit > 0 {
		command.OverdraftLimit = new(b.amount(limit, c))
	}
	if deposit > 0 {
		command.InitialDeposit = new(b.amount(deposit, c))
	}
	id := b.newID()
	b.do(id, command)
	return id, c
}

// openBank opens the accounts of companies, and of the first person in each currency.
func (b *bank) openBank() {
	b.shops, b.employer, b.landlord = make(map[string][]uuid.UUID), make(map[string]uuid.UUID), make(map[string]uuid.UUID)
	for i := range markets {
		m := &markets[i]
		company := map[string]string{"kind": "company", "branch": branches[i]}
		b.employer[m.currency], _ = b.open(m.employer, m.currency, 0, 150_000*m.unit, company)
		b.landlord[m.currency], _ = b.open(m.landlord, m.currency, 0, 0, company)
		for _, shop := range m.shops {
			id, _ := b.open(shop, m.currency, 100*m.unit, 0, map[string]string{"kind": "shop", "branch": branches[i]})
			b.shops[m.currency] = append(b.shops[m.currency], id)
		}
	}
	for i := range markets {
		b.openIn(&markets[i], 0)
	}
}

// openPerson opens the account of the n-th person after the first ones, if there is one.
func (b *bank) openPerson(n int) {
	for row := 1; ; row++ {
		found := false
		for i := range markets {
			if row < len(markets[i].people) {
				found = true
				if n == 0 {
					b.openIn(&markets[i], row)
					return
				}
				n--
			}
		}
		if !found {
			return
		}
	}
}

func (b *bank) openIn(m *market, row int) {
	limit := int64(0)
	if row%3 == 0 {
		limit = 150 * m.unit
	}
	id, c := b.open(m.people[row], m.currency, limit, int64(20+b.rng.IntN(80))*m.unit, map[string]string{"kind": "person", "branch": branches[b.rng.IntN(len(branches))]})
	b.people = append(b.people, &person{id: id, currency: c})
}

func (b *bank) unit(c money.Currency) int64 {
	for i := range markets {
		if markets[i].currency == c.Code() {
			return markets[i].unit
		}
	}
	return 1
}

func (b *bank) payRents(day time.Time) {
	for i, p := range b.people {
		rent := int64(180+10*(i%9)) * b.unit(p.currency)
		b.do(p.id, account.Transfer{
			To: b.landlord[p.currency.Code()], Amount: b.amount(rent, p.currency), Reference: "Rent " + day.Format("January 2006"),
			Metadata: account.NewMetadata(map[string]string{"category": "home", "month": day.Format("2006-01")}),
		})
	}
}

func (b *bank) paySalaries(day time.Time) {
	for i := range markets {
		m := &markets[i]
		employer := b.employer[m.currency]
		c := b.states[employer].Currency
		b.do(employer, account.Deposit{Amount: b.amount(5_500*m.unit, c), Reference: "Sales " + day.Format("January 2006")})
	}
	for i, p := range b.people {
		salary := int64(240+10*(i%7)) * b.unit(p.currency)
		b.do(b.employer[p.currency.Code()], account.Transfer{
			To: p.id, Amount: b.amount(salary, p.currency), Reference: "Salary " + day.Format("January 2006"),
			Metadata: account.NewMetadata(map[string]string{"category": "salary", "month": day.Format("2006-01")}),
		})
	}
}

// buy lets a person pay for something, in one of several ways.
func (b *bank) buy(p *person, day time.Time) {
	c := p.currency
	shops := b.shops[c.Code()]
	shop := shops[b.rng.IntN(len(shops))]
	minor := b.unit(c)*int64(1+b.rng.IntN(14)) + b.rng.Int64N(b.unit(c))
	what := goods[b.rng.IntN(len(goods))]
	labels := account.NewMetadata(map[string]string{"category": categories[b.rng.IntN(len(categories))], "invoice": fmt.Sprintf("R-%05d", len(b.log))})
	switch n := b.rng.IntN(100); {
	case n < 45:
		if position := b.do(p.id, account.Transfer{To: shop, Amount: b.amount(minor, c), Reference: what, Metadata: labels}); position > 0 {
			b.spent = append(b.spent, position)
		}
	case n < 75:
		b.placeHold(p, shop, minor, what, day)
	case n < 88:
		if position := b.do(p.id, account.Withdraw{Amount: b.amount(minor, c), Reference: "cash", Metadata: labels}); position > 0 {
			b.spent = append(b.spent, position)
		}
	case n < 95:
		b.do(p.id, account.Deposit{Amount: b.amount(2*minor, c), Reference: "cash at the counter", Metadata: labels})
	case len(b.spent) > 0:
		b.reverse()
	}
}

// placeHold places a hold that a shop captures days later, or that ends without.
func (b *bank) placeHold(p *person, shop uuid.UUID, minor int64, what string, day time.Time) {
	h := hold{account: p.id, id: b.newID(), shop: shop, amount: minor, day: day.AddDate(0, 0, 1+b.rng.IntN(4))}
	h.expires = b.rng.IntN(10) == 0 && h.day.Before(b.end) // those left open last for some days
	command := account.PlaceHold{HoldID: h.id, Amount: b.amount(minor, p.currency), Reference: what}
	if h.expires {
		command.ExpiresAt = h.day.Add(6 * time.Hour)
	} else {
		command.ExpiresAt = h.day.AddDate(0, 0, 7)
	}
	if b.do(p.id, command) > 0 {
		b.holds = append(b.holds, h)
	}
}

// endHolds ends the holds whose day has come.
func (b *bank) endHolds(day time.Time) {
	var open []hold
	for _, h := range b.holds {
		switch {
		case h.day.After(day):
			open = append(open, h)
		case h.expires:
			b.do(h.account, account.ExpireHold{HoldID: h.id})
		case b.rng.IntN(8) == 0:
			b.do(h.account, account.ReleaseHold{HoldID: h.id, Reason: "the order was cancelled"})
		default:
			captured := b.do(h.account, account.CaptureHold{
				HoldID: h.id, Amount: new(b.amount(h.amount-b.rng.Int64N(h.amount/4+1), b.states[h.account].Currency)), To: h.shop, Reference: "card payment",
			})
			if captured == 0 { // the account is suspended: the hold expires
				h.day, h.expires = h.day.AddDate(0, 0, 7), true
				open = append(open, h)
			}
		}
	}
	b.holds = open
}

// reverse takes back a payment, or a part of it.
func (b *bank) reverse() {
	n := b.rng.IntN(len(b.spent))
	position := b.spent[n]
	b.spent = append(b.spent[:n], b.spent[n+1:]...)
	b.do(uuid.Nil, account.Reverse{Position: position, Reason: "goods returned"})
}

// rarely lets happen what happens on a few days only.
func (b *bank) rarely(number int) {
	some := b.people[b.rng.IntN(len(b.people))]
	if number == Days-2 {
		b.overdraw()
	}
	switch number % 30 {
	case 6:
		b.do(some.id, account.Suspend{Reason: "the card was reported lost"})
	case 8:
		for _, p := range b.people {
			if b.states[p.id].Status == account.Suspended && number < 150 { // the last one stays
				b.do(p.id, account.Reactivate{Reason: "a new card was sent"})
			}
		}
	case 12:
		b.do(some.id, account.Change{OverdraftLimit: new(b.amount(int64(100+b.rng.IntN(200))*b.unit(some.currency), some.currency))})
	case 18:
		branch := branches[b.rng.IntN(len(branches))]
		b.do(some.id, account.Change{Metadata: map[string]*string{"branch": &branch}})
	case 20:
		if owner := b.states[some.id].Owner; !strings.Contains(owner, " & ") {
			owner += " & Co."
			b.do(some.id, account.Change{Owner: &owner})
		}
	case 26:
		b.leave()
	}
}

// overdraw lets the first people go below zero, half as far as their limits allow.
func (b *bank) overdraw() {
	for _, p := range b.people[:2] {
		s := b.states[p.id]
		if minor := s.Balance + s.OverdraftLimit/2; minor > 0 {
			b.do(p.id, account.Withdraw{Amount: b.amount(minor, p.currency), Reference: "a new roof"})
		}
	}
}

// leave closes the account of a person without open holds, who takes the money along.
func (b *bank) leave() {
	for i := len(b.people) - 1; i > 0; i-- {
		p := b.people[i]
		s := b.states[p.id]
		if s.Status != account.Active || s.Held != 0 || s.Balance < 0 {
			continue
		}
		if s.Balance > 0 && b.do(p.id, account.Withdraw{Amount: b.amount(s.Balance, p.currency), Reference: "moving abroad"}) == 0 {
			continue
		}
		b.do(p.id, account.Close{Reason: "moving abroad"})
		b.people = append(b.people[:i], b.people[i+1:]...)
		return
	}
}
