--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: presence; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA presence;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: journal; Type: TABLE; Schema: presence; Owner: -
--

CREATE TABLE presence.journal (
    seq bigint NOT NULL,
    tenant text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    entry json NOT NULL
);
ALTER TABLE ONLY presence.journal ALTER COLUMN tenant SET STATISTICS 0;
ALTER TABLE ONLY presence.journal ALTER COLUMN subject SET STATISTICS 0;
ALTER TABLE ONLY presence.journal ALTER COLUMN id SET STATISTICS 0;
ALTER TABLE ONLY presence.journal ALTER COLUMN entry SET STATISTICS 0;

--
-- Name: journal_seq_seq; Type: SEQUENCE; Schema: presence; Owner: -
--

ALTER TABLE presence.journal ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME presence.journal_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: records; Type: TABLE; Schema: presence; Owner: -
--

CREATE TABLE presence.records (
    tenant text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    revision bigint NOT NULL,
    data bytea NOT NULL
)
WITH (fillfactor='85');
ALTER TABLE ONLY presence.records ALTER COLUMN tenant SET STATISTICS 0;
ALTER TABLE ONLY presence.records ALTER COLUMN subject SET STATISTICS 0;
ALTER TABLE ONLY presence.records ALTER COLUMN data SET STATISTICS 0;

--
-- Name: version; Type: TABLE; Schema: presence; Owner: -
--

CREATE TABLE presence.version (
    version integer NOT NULL,
    one boolean DEFAULT true NOT NULL,
    CONSTRAINT version_one_check CHECK (one)
);

--
-- Data for Name: journal; Type: TABLE DATA; Schema: presence; Owner: -
--

INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (1, '', 'ann', 'e1@4004224230239714182', 4004224230239714182, '{"id":"e1@4004224230239714182","subject":{"id":"ann"},"kind":"transition","to":"available","class":"available","cause":"default","trigger":"connect","reach":"live","at":"2026-11-21T04:30:30.239714182Z","recorded":"2026-11-21T04:30:30.239714182Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (2, '', 'ann', 'claim-set/choice-0', 4004224230239751712, '{"id":"claim-set/choice-0","subject":{"id":"ann"},"kind":"claim-set","to":"busy","class":"busy","source":"manual","key":"base","reason":"it''s lunch","by":"ann","at":"2026-11-21T04:30:30.239751712Z","recorded":"2026-11-21T04:30:30.239751712Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (3, '', 'ann', 'e3@4004224230239751712', 4004224230239751712, '{"id":"e3@4004224230239751712","subject":{"id":"ann"},"kind":"transition","from":"available","to":"busy","class":"busy","cause":"manual","trigger":"manual","reach":"live","reason":"it''s lunch","at":"2026-11-21T04:30:30.239751712Z","recorded":"2026-11-21T04:30:30.239751712Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (4, '', 'ann', 'claim-ended/choice-0', 4004224230240914672, '{"id":"claim-ended/choice-0","subject":{"id":"ann"},"kind":"claim-ended","from":"busy","class":"busy","trigger":"replaced","source":"manual","key":"base","reason":"it''s lunch","by":"ann","at":"2026-11-21T04:30:30.240914672Z","recorded":"2026-11-21T04:30:30.240914672Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (5, '', 'ann', 'claim-set/choice-1', 4004224230240914672, '{"id":"claim-set/choice-1","subject":{"id":"ann"},"kind":"claim-set","to":"away","class":"away","source":"manual","key":"base","reason":"it''s lunch","by":"ann","at":"2026-11-21T04:30:30.240914672Z","recorded":"2026-11-21T04:30:30.240914672Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (6, '', 'ann', 'e5@4004224230240914672', 4004224230240914672, '{"id":"e5@4004224230240914672","subject":{"id":"ann"},"kind":"transition","from":"busy","to":"away","class":"away","cause":"manual","trigger":"manual","reach":"live","reason":"it''s lunch","at":"2026-11-21T04:30:30.240914672Z","recorded":"2026-11-21T04:30:30.240914672Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (7, 'acme', 'René ☎', 'e1@4004224230242003144', 4004224230242003144, '{"id":"e1@4004224230242003144","subject":{"tenant":"acme","id":"René ☎"},"kind":"transition","to":"available","class":"available","cause":"default","trigger":"connect","reach":"live","at":"2026-11-21T04:30:30.242003144Z","recorded":"2026-11-21T04:30:30.242003144Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (8, 'acme', 'René ☎', 'claim-set/choice-0', 4004224230242021398, '{"id":"claim-set/choice-0","subject":{"tenant":"acme","id":"René ☎"},"kind":"claim-set","to":"busy","class":"busy","source":"manual","key":"base","reason":"it''s lunch","by":"René ☎","at":"2026-11-21T04:30:30.242021398Z","recorded":"2026-11-21T04:30:30.242021398Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (9, 'acme', 'René ☎', 'e3@4004224230242021398', 4004224230242021398, '{"id":"e3@4004224230242021398","subject":{"tenant":"acme","id":"René ☎"},"kind":"transition","from":"available","to":"busy","class":"busy","cause":"manual","trigger":"manual","reach":"live","reason":"it''s lunch","at":"2026-11-21T04:30:30.242021398Z","recorded":"2026-11-21T04:30:30.242021398Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (10, 'acme', 'René ☎', 'claim-ended/choice-0', 4004224230242512464, '{"id":"claim-ended/choice-0","subject":{"tenant":"acme","id":"René ☎"},"kind":"claim-ended","from":"busy","class":"busy","trigger":"replaced","source":"manual","key":"base","reason":"it''s lunch","by":"René ☎","at":"2026-11-21T04:30:30.242512464Z","recorded":"2026-11-21T04:30:30.242512464Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (11, 'acme', 'René ☎', 'claim-set/choice-1', 4004224230242512464, '{"id":"claim-set/choice-1","subject":{"tenant":"acme","id":"René ☎"},"kind":"claim-set","to":"away","class":"away","source":"manual","key":"base","reason":"it''s lunch","by":"René ☎","at":"2026-11-21T04:30:30.242512464Z","recorded":"2026-11-21T04:30:30.242512464Z"}');
INSERT INTO presence.journal OVERRIDING SYSTEM VALUE VALUES (12, 'acme', 'René ☎', 'e5@4004224230242512464', 4004224230242512464, '{"id":"e5@4004224230242512464","subject":{"tenant":"acme","id":"René ☎"},"kind":"transition","from":"busy","to":"away","class":"away","cause":"manual","trigger":"manual","reach":"live","reason":"it''s lunch","at":"2026-11-21T04:30:30.242512464Z","recorded":"2026-11-21T04:30:30.242512464Z"}');

--
-- Data for Name: records; Type: TABLE DATA; Schema: presence; Owner: -
--

INSERT INTO presence.records VALUES ('', 'ann', 2, '\x7b2276657273696f6e223a312c22636c61696d73223a5b7b226964223a2263686f6963652d31222c2273657269616c223a342c22737461747573223a2261776179222c22636c617373223a2261776179222c22736f75726365223a226d616e75616c222c226b6579223a2262617365222c22726561736f6e223a2269742773206c756e6368222c2274657874223a226261636b20617420325c6e6f722033222c227365744174223a22323032362d31312d32315430343a33303a33302e3234303931343637325a222c226279223a22616e6e227d5d2c22696e707574223a22323032362d31312d32315430343a33303a33302e3234303931343637325a222c2265706f6368223a312c2273657269616c223a352c22737461747573223a2261776179222c22636c617373223a2261776179222c226361757365223a226d616e75616c222c2273696e6365223a22323032362d31312d32315430343a33303a33302e3234303931343637325a222c227265616368223a337d');
INSERT INTO presence.records VALUES ('acme', 'René ☎', 2, '\x7b2276657273696f6e223a312c22636c61696d73223a5b7b226964223a2263686f6963652d31222c2273657269616c223a342c22737461747573223a2261776179222c22636c617373223a2261776179222c22736f75726365223a226d616e75616c222c226b6579223a2262617365222c22726561736f6e223a2269742773206c756e6368222c2274657874223a226261636b20617420325c6e6f722033222c227365744174223a22323032362d31312d32315430343a33303a33302e3234323531323436345a222c226279223a2252656ec3a920e2988e227d5d2c22696e707574223a22323032362d31312d32315430343a33303a33302e3234323531323436345a222c2265706f6368223a312c2273657269616c223a352c22737461747573223a2261776179222c22636c617373223a2261776179222c226361757365223a226d616e75616c222c2273696e6365223a22323032362d31312d32315430343a33303a33302e3234323531323436345a222c227265616368223a337d');

--
-- Data for Name: version; Type: TABLE DATA; Schema: presence; Owner: -
--

INSERT INTO presence.version VALUES (2, true);

--
-- Name: journal_seq_seq; Type: SEQUENCE SET; Schema: presence; Owner: -
--

SELECT pg_catalog.setval('presence.journal_seq_seq', 12, true);

--
-- Name: journal journal_pkey; Type: CONSTRAINT; Schema: presence; Owner: -
--

ALTER TABLE ONLY presence.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (tenant, subject, id);

--
-- Name: records records_pkey; Type: CONSTRAINT; Schema: presence; Owner: -
--

ALTER TABLE ONLY presence.records
    ADD CONSTRAINT records_pkey PRIMARY KEY (tenant, subject);

--
-- Name: version version_pkey; Type: CONSTRAINT; Schema: presence; Owner: -
--

ALTER TABLE ONLY presence.version
    ADD CONSTRAINT version_pkey PRIMARY KEY (one);

--
-- Name: journal_at; Type: INDEX; Schema: presence; Owner: -
--

CREATE INDEX journal_at ON presence.journal USING brin (at) WITH (pages_per_range='16', autosummarize='on');

--
-- Name: journal_order; Type: INDEX; Schema: presence; Owner: -
--

CREATE INDEX journal_order ON presence.journal USING btree (tenant, subject, seq, at);

--
-- Name: journal_period; Type: INDEX; Schema: presence; Owner: -
--

CREATE INDEX journal_period ON presence.journal USING btree (tenant, at, seq);

--
-- PostgreSQL database dump complete
--

