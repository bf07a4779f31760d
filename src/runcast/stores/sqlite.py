"""The SQLite store, first cut: one worker thread, one transaction per write. To be replaced by the grouped one."""
from __future__ import annotations
import asyncio, json, sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any
import msgspec
from runcast import events as e
from runcast.errors import *
from runcast.events import Record
from runcast.ids import new_epoch
from runcast.runs import AgentState, Run, Thread
from runcast.stores.base import *
from runcast.stores.base import Store, Written, Receipt, Page, Snapshot, Orphan

class SqliteStore(Store):
    @classmethod
    async def open(cls, path, **kw):
        s = cls(); s.pool = ThreadPoolExecutor(1); s.closed=False
        await s._do(s._open, str(path)); return s
    def _open(self, path):
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.db.executescript("""pragma journal_mode=wal; pragma synchronous=normal;
        create table if not exists kv(k text primary key, v blob);
        create table if not exists threads(id text primary key, owner text, kind text, row blob, fence int, lease_owner text, expires int, deleted int default 0);
        create table if not exists log(thread text, seq int, data blob, primary key(thread, seq));
        create table if not exists runs(id text primary key, thread text, status text, first_seq int, row blob);
        create table if not exists receipts(owner text, key text, hash text, result blob, primary key(owner,key));
        create table if not exists states(run text primary key, row blob);
        create table if not exists aliases(owner text, ext text, thread text, primary key(owner, ext));
        update threads set lease_owner=null, expires=0;""")
    async def _do(self, f, *a):
        if self.closed: raise StoreError("The store is closed.")
        return await asyncio.get_running_loop().run_in_executor(self.pool, f, *a)
    def _tx(self, f, *a, **k):
        self.db.execute("begin immediate")
        try: r = f(*a, **k); self.db.execute("commit"); return r
        except BaseException: self.db.execute("rollback"); raise
    def _thread(self, id):
        r = self.db.execute("select row, deleted from threads where id=?", (id,)).fetchone()
        if not r or r[1]: return None
        h = self.db.execute("select max(seq) from log where thread=?", (id,)).fetchone()[0] or 0
        return msgspec.structs.replace(msgspec.json.decode(r[0], type=Thread), head=h)
    def _put(self, t): self.db.execute("update threads set row=? where id=?", (msgspec.json.encode(t), t.id))
    def _owner(self, p): return json.dumps([p.tenant, p.user])
    async def create_thread(self, owner, thread, *, kind="chat", title="", agent="", now, receipt=None):
        def work():
            r = self.db.execute("select owner, deleted from threads where id=?", (thread,)).fetchone()
            if r:
                if r[1] or r[0] != self._owner(owner): raise NotFound("There is no such conversation.")
                return self._thread(thread)
            if receipt: self._receipt(owner, receipt)
            t = Thread(id=thread, tenant=owner.tenant, user=owner.user, kind=kind, epoch=new_epoch(), title=title, agent=agent, created_at=now, updated_at=now)
            self.db.execute("insert into threads values(?,?,?,?,0,null,0,0)", (thread, self._owner(owner), kind, msgspec.json.encode(t)))
            return t
        return await self._do(self._tx, work)
    def _receipt(self, owner, receipt):
        r = self.db.execute("select hash from receipts where owner=? and key=?", (self._owner(owner), receipt.key)).fetchone()
        if r: raise (SequenceConflict("done before") if r[0]==receipt.body_hash else IdempotencyConflict("other body"))
        self.db.execute("insert into receipts values(?,?,?,?)", (self._owner(owner), receipt.key, receipt.body_hash, receipt.result))
    async def get_thread(self, thread): return await self._do(self._thread, thread)
    async def inbox(self, owner, *, now): return await self.create_thread(owner, "inbox:"+self._owner(owner), kind="inbox", now=now)
    async def list_threads(self, owner, *, query="", cursor=None, limit=50):
        def work():
            ts=[self._thread(r[0]) for r in self.db.execute("select id from threads where owner=? and kind='chat' and deleted=0", (self._owner(owner),))]
            def hit(t):
                text=(t.title+" "+" ".join(r[0].decode() for r in self.db.execute("select data from log where thread=?", (t.id,)))).lower()
                return all(w.lower() in text for w in query.split())
            return Page(sorted([t for t in ts if hit(t)], key=lambda t:-t.updated_at)[:limit], None)
        return await self._do(work)
    async def delete_thread(self, thread, *, fence, now, notices=()):
        def work():
            t=self._thread(thread)
            for tab in ("log","runs"): self.db.execute(f"delete from {tab} where thread=?", (thread,))
            self.db.execute("update threads set deleted=1 where id=?", (thread,))
            return self._notices(t, notices, now)
        inbox, recs = await self._do(self._tx, work); return Written([], inbox, recs)
    def _notices(self, t, notices, now):
        if not notices: return None, []
        from runcast.runs import Principal
        p=Principal(user=t.user, tenant=t.tenant); id="inbox:"+self._owner(p)
        self.db.execute("insert or ignore into threads values(?,?,?,?,0,null,0,0)", (id, self._owner(p), "inbox", msgspec.json.encode(Thread(id=id,tenant=t.tenant,user=t.user,kind="inbox",epoch=new_epoch(),created_at=now,updated_at=now))))
        h=self.db.execute("select max(seq) from log where thread=?", (id,)).fetchone()[0] or 0
        return id, self._log(id, h, notices, now)
    def _log(self, thread, head, events, now):
        recs=[]
        for i, ev in enumerate(events, head+1):
            ev=e.stamp(ev, i, now); recs.append(Record(ev, e.encode(ev)))
        self.db.executemany("insert into log values(?,?,?)", [(thread, r.seq, r.data) for r in recs]); return recs
    async def resolve_alias(self, owner, external_id, *, new_thread, now):
        r = await self._do(lambda: self.db.execute("select thread from aliases where owner=? and ext=?", (self._owner(owner), external_id)).fetchone())
        if r and (t := await self.get_thread(r[0])): return t
        def work():
            r = self.db.execute("select thread from aliases where owner=? and ext=?", (self._owner(owner), external_id)).fetchone()
            if r and (t := self._thread(r[0])): return t
            t = Thread(id=new_thread, tenant=owner.tenant, user=owner.user, epoch=new_epoch(), created_at=now, updated_at=now)
            self.db.execute("insert into threads values(?,?,?,?,0,null,0,0)", (new_thread, self._owner(owner), "chat", msgspec.json.encode(t)))
            self.db.execute("insert or replace into aliases values(?,?,?)", (self._owner(owner), external_id, new_thread))
            return t
        return await self._do(self._tx, work)
    async def receipt(self, owner, key):
        r = await self._do(lambda: self.db.execute("select key,hash,result from receipts where owner=? and key=?", (self._owner(owner), key)).fetchone())
        return Receipt(*r) if r else None
    async def append(self, write, *, now):
        def work():
            r=self.db.execute("select fence, deleted from threads where id=?", (write.thread,)).fetchone()
            if not r or r[1]: raise NotFound("gone")
            if r[0]!=write.fence: raise LeaseLost("old fence")
            t=self._thread(write.thread)
            if t.head!=write.expected_seq: raise SequenceConflict("head")
            from runcast.runs import Principal
            if write.receipt: self._receipt(Principal(user=t.user, tenant=t.tenant), write.receipt)
            recs=self._log(write.thread, t.head, write.events, now)
            for run in write.runs:
                self.db.execute("insert or replace into runs values(?,?,?,?,?)", (run.id, run.thread, run.status, run.first_seq, msgspec.json.encode(run)))
            ch={k:v for k,v in (("title",write.title),("pinned",write.pinned),("head_run",write.head_run)) if v is not None}
            if write.runs: ch["status"]=write.runs[-1].status
            if ch: self._put(msgspec.structs.replace(t, **ch, updated_at=now))
            if write.agent_state: self.db.execute("insert or replace into states values(?,?)", (write.agent_state.run, msgspec.json.encode(write.agent_state)))
            inbox, n = self._notices(t, write.notices, now)
            return Written(recs, inbox, n)
        return await self._do(self._tx, work)
    async def read(self, thread, after, *, max_bytes=MAX_BYTES, max_events=MAX_EVENTS):
        def work():
            out, size=[],0
            for (d,) in self.db.execute("select data from log where thread=? and seq>? order by seq limit ?", (thread, after, max_events)):
                size+=len(d)
                if out and size>max_bytes: break
                out.append(Record(e.decode(d), d))
            return out
        return await self._do(work)
    async def runs(self, *, thread=None, status=(), ids=()):
        def work():
            rows=[msgspec.json.decode(r[0], type=Run) for r in self.db.execute("select row from runs order by first_seq")]
            return [r for r in rows if (thread is None or r.thread==thread) and (not status or r.status in status) and (not ids or r.id in ids)]
        return await self._do(work)
    async def agent_states(self, runs):
        def work():
            f=[self.db.execute("select row from states where run=?", (r,)).fetchone() for r in runs]
            return [msgspec.json.decode(x[0], type=AgentState) for x in f if x]
        return await self._do(work)
    async def snapshot(self, thread): return None
    async def put_snapshot(self, thread, snapshot): pass
    async def acquire(self, thread, owner, *, now, ttl_ms):
        def work():
            r=self.db.execute("select fence, lease_owner, expires, deleted from threads where id=?", (thread,)).fetchone()
            if not r or r[3]: raise NotFound("gone")
            if r[1] not in (None, owner) and r[2]>now: raise LeaseLost("held")
            self.db.execute("update threads set fence=?, lease_owner=?, expires=? where id=?", (r[0]+1, owner, now+ttl_ms, thread)); return r[0]+1
        return await self._do(self._tx, work)
    async def renew(self, owner, *, now, ttl_ms):
        def work():
            self.db.execute("update threads set expires=? where lease_owner=?", (now+ttl_ms, owner))
            return {r[0] for r in self.db.execute("select id from threads where lease_owner=?", (owner,))}
        return await self._do(self._tx, work)
    async def release(self, thread, *, fence):
        await self._do(lambda: self.db.execute("update threads set lease_owner=null, expires=0 where id=? and fence=?", (thread, fence)))
    async def orphans(self, *, now):
        def work():
            ids=[r[0] for r in self.db.execute("select distinct thread from runs where status in ('running','queued')")]
            out=[]
            for id in ids:
                r=self.db.execute("select lease_owner, expires from threads where id=?", (id,)).fetchone()
                if r and (r[0] is None or r[1]<now): out.append(Orphan(self._thread(id), []))
            return out
        return await self._do(work)
    async def close(self):
        if not self.closed:
            self.closed=True; self.pool.submit(self.db.close).result(); self.pool.shutdown()
