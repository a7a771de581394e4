use vault::*;
#[test]
fn smoke() {
    let home = tempfile::tempdir().unwrap();
    let v = Vault::under(home.path());
    assert!(v.list().unwrap().is_empty());
    assert_eq!(v.set("a", &Value::new(b"hello").unwrap(), &Change::default()).unwrap(), 1);
    assert_eq!(v.get("a").unwrap().value.expose(), "hello");
    println!("{:#?}", v.info());
    for i in 0..1000 {
        v.set(
            &format!("credential-{i:05}"),
            &Value::new(format!("value {i} xxxxxxxxxxxxxxxxxxx").as_bytes()).unwrap(),
            &Change::default(),
        )
        .unwrap();
    }
    let t = std::time::Instant::now();
    for _ in 0..1000 {
        v.get("credential-00500").unwrap();
    }
    println!("get {:?}", t.elapsed() / 1000);
    let t = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(v.get_all().unwrap().len(), 1001);
    }
    println!("get_all {:?}", t.elapsed() / 20);
    println!("verify {:?}", v.verify());
    println!("{:#?}", v.info());
}
