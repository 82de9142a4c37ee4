import pytest

LAMP = {"sku": "LAMP-1", "name": "Desk lamp", "price": "39.90"}


def test_create_read_list_delete(client, as_user):
    created = client.post("/items", json=LAMP, headers=as_user())
    assert created.status_code == 201
    item = created.json()
    assert (item["sku"], item["owner"], item["price"]) == ("LAMP-1", "ada", 39.9)

    assert client.get(f"/items/{item['id']}").json() == item
    assert client.get("/items").json() == [item]
    assert client.get("/items", params={"after": item["id"]}).json() == []

    assert client.delete(f"/items/{item['id']}", headers=as_user()).status_code == 204
    assert client.get(f"/items/{item['id']}").status_code == 404


def test_each_test_starts_empty(client):
    assert client.get("/items").json() == []


def test_a_sku_is_taken_once(client, as_user):
    assert client.post("/items", json=LAMP, headers=as_user()).status_code == 201
    again = client.post("/items", json=LAMP, headers=as_user(sub="grace"))
    assert again.status_code == 409
    assert len(client.get("/items").json()) == 1


def test_names_survive_the_way_through_the_database(client, as_user):
    name = "Lämpchen 電灯 '; drop table items; --"
    item = client.post("/items", json={**LAMP, "name": name}, headers=as_user()).json()
    assert client.get(f"/items/{item['id']}").json()["name"] == name


@pytest.mark.parametrize("change", [{"sku": "no spaces"}, {"name": ""}, {"price": "-1"}, {"price": "1.001"}])
def test_nonsense_is_refused(client, as_user, change):
    assert client.post("/items", json={**LAMP, **change}, headers=as_user()).status_code == 422


def test_writing_needs_the_scope(client, as_user):
    assert client.post("/items", json=LAMP, headers=as_user(scope="items:read")).status_code == 403
    assert client.post("/items", json=LAMP).status_code == 401


def test_only_the_owner_deletes(client, as_user):
    item = client.post("/items", json=LAMP, headers=as_user(sub="ada")).json()
    assert client.delete(f"/items/{item['id']}", headers=as_user(sub="mallory")).status_code == 403
    assert client.get(f"/items/{item['id']}").status_code == 200
