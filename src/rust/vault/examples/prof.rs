use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use vault::*;
fn limit(path: &std::path::Path, keys: &[Vec<u8>], cts: &[Vec<u8>], c: &Aes256Gcm) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let k = Connection::open_with_flags(path, flags).unwrap();
    k.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    k.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).unwrap();
    k.execute_batch(inside::READ_SETTINGS).unwrap();
    k.execute_batch("BEGIN").unwrap();
    let mut q = k.prepare("SELECT value FROM row WHERE key = ?1").unwrap();
    for key in keys {
        let _: Vec<u8> = q.query_row([key], |r| r.get(0)).unwrap();
    }
    for ct in cts {
        c.decrypt(&[0; 12].into(), Payload { msg: ct, aad: b"" }).unwrap();
    }
}
fn main() {
    let home = std::path::PathBuf::from("/tmp/prof-home");
    let v = Vault::under(&home);
    let n: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let count: u32 = std::env::args().nth(2).unwrap().parse().unwrap();
    if !home.exists() {
        std::fs::create_dir(&home).unwrap();
        for i in 0..count {
            v.set(
                &format!("credential-{i:05}"),
                &Value::new(format!("value {i} xxxxxxxxxxxxxxxxxxx").as_bytes()).unwrap(),
                &Change::default(),
            )
            .unwrap();
        }
    }
    let path = home.join("data/vault.db");
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let k = Connection::open(&path).unwrap();
        let mut q = k.prepare("select key, value from row").unwrap();
        q.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(|r| r.unwrap()).collect()
    };
    let mut pick: Vec<&(Vec<u8>, Vec<u8>)> = rows.iter().filter(|(k, _)| [0, 1, 2, 4].contains(&k[0])).collect();
    let pages: Vec<_> = rows.iter().filter(|(k, _)| k[0] == 6).collect();
    pick.push(pages[0]);
    pick.push(pages[pages.len() / 2]);
    pick.push(rows.iter().filter(|(k, _)| k[0] == 3).nth(count as usize / 2).unwrap());
    let c = Aes256Gcm::new_from_slice(&[7; 32]).unwrap();
    let keys: Vec<_> = pick.iter().map(|p| p.0.clone()).collect();
    let cts: Vec<_> =
        pick.iter().map(|p| c.encrypt(&[0; 12].into(), Payload { msg: &p.1, aad: b"" }).unwrap()).collect();
    println!("rows {} bytes {}", pick.len(), pick.iter().map(|p| p.1.len()).sum::<usize>());
    let name = format!("credential-{:05}", count / 2);
    let (mut a, mut b) = (vec![], vec![]);
    for _ in 0..n {
        let t = std::time::Instant::now();
        v.get(&name).unwrap();
        a.push(t.elapsed());
        let t = std::time::Instant::now();
        limit(&path, &keys, &cts, &c);
        b.push(t.elapsed());
    }
    a.sort();
    b.sort();
    println!("get median {:?} min {:?}; limit median {:?} min {:?}", a[a.len() / 2], a[0], b[b.len() / 2], b[0]);
    let mut a = vec![];
    for _ in 0..50 {
        let t = std::time::Instant::now();
        v.get_all().unwrap();
        a.push(t.elapsed());
    }
    a.sort();
    println!("all median {:?} min {:?}", a[a.len() / 2], a[0]);
}
